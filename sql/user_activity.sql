-- When did each user last log in, and when was each last active?

-- migration 1: user_activity
create table if not exists user_activity (
    user_id text collate "C" primary key,
    last_login_time timestamptz,
    last_active_time timestamptz not null
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
-- The day is indexed, not the time: all updates but the first of a day stay HOT.
alter table user_activity
    add column if not exists last_active_day date
    generated always as ((last_active_time at time zone 'UTC')::date) stored;
create index if not exists user_activity_last_active_day on user_activity (last_active_day);

-- write user_activity (user_activity)
-- greatest() ignores nulls, so a row without a login takes the other's.
insert into user_activity as t (user_id, last_login_time, last_active_time)
select n.user_id, n.last_login_time, n.last_active_time
from unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) as n (user_id, last_login_time, last_active_time)
left join lateral (
    select t.last_login_time, t.last_active_time from user_activity as t where t.user_id = n.user_id limit 1
) as o on true
where o.last_active_time is null
    or n.last_active_time > o.last_active_time
    or n.last_login_time > coalesce(o.last_login_time, '-infinity')
order by n.user_id collate "C"
on conflict (user_id) do update
set last_login_time = greatest(t.last_login_time, excluded.last_login_time),
    last_active_time = greatest(t.last_active_time, excluded.last_active_time)
where excluded.last_active_time > t.last_active_time
    or excluded.last_login_time > coalesce(t.last_login_time, '-infinity');

-- verify user_activity
select user_id, last_login_time, last_active_time from user_activity;

-- show user
select user_id, last_login_time, last_active_time from user_activity where user_id = $1;

-- inactive users
select user_id, last_active_time, last_login_time
from user_activity
where last_active_day <= ($1::timestamptz at time zone 'UTC')::date and last_active_time <= $1
order by last_active_time, user_id
limit $2;

-- query empty
truncate user_activity;
