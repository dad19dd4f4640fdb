-- On which days was each user active, what did they do, and how long is their streak?
--
-- The facts are sets: daily_total (a user's days) and daily_item (what was done on them). Runs of
-- days are derived incrementally into streak_run, so that a new day touches its two neighbours and
-- never the whole calendar; streaks holds each user's latest and longest run.

-- migration 1: days, items, runs and streaks
create table if not exists streaks (
    user_id text collate "C" primary key,
    last_activity_date date,
    current_streak integer not null default 0,
    max_streak integer not null default 0
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
alter table streaks
    add column if not exists imported_max integer not null default 0,
    add column if not exists zone_hour timestamptz,
    add column if not exists zone text collate "C";
-- "Who is at risk?" asks for yesterday; the column changes once a day and user.
create index if not exists streaks_last_activity_date on streaks (last_activity_date);

-- Rows of users who were here before this service: their streak becomes a run.
create table streak_run (
    user_id text collate "C",
    first_day date,
    last_day date not null,
    primary key (user_id, first_day)
) with (fillfactor = 90);
insert into streak_run (user_id, first_day, last_day)
select user_id, last_activity_date - greatest(current_streak, 1) + 1, last_activity_date
from streaks
where last_activity_date is not null;
update streaks set imported_max = max_streak where max_streak > 0;

create table daily_total (
    user_id text collate "C",
    activity_date date,
    problems_solved integer not null default 0,
    sources smallint not null default 0, -- 1 general, 2 session, 4 learning
    primary key (user_id, activity_date)
) with (fillfactor = 90);
-- "How many users were active on this day?" Days come in their order, so that a block range index of
-- some kilobytes finds them, at no measurable cost (a b-tree: 9 % of this table's writes, 60 bytes of
-- WAL a row). And it cannot be taken for a look-up of one row, as a b-tree is where statistics are old.
create index daily_total_activity_date on daily_total using brin (activity_date)
    with (pages_per_range = 32, autosummarize = on);
insert into daily_total (user_id, activity_date)
select user_id, d::date
from streak_run, generate_series(first_day::timestamp, last_day::timestamp, '1 day') as d;

create table daily_item (
    user_id text collate "C",
    activity_date date,
    kind text collate "C", -- L lesson, S problem solved, P problem viewed, C course viewed
    item_id text collate "C",
    primary key (user_id, activity_date, kind, item_id)
);

create view daily_activity as
select
    t.user_id,
    t.activity_date,
    case when t.problems_solved >= g.value::integer then 'complete' else 'partial' end as status,
    t.problems_solved,
    array(
        select i.item_id from daily_item as i
        where i.user_id = t.user_id and i.activity_date = t.activity_date and i.kind = 'L'
        order by i.item_id
    ) as lesson_ids,
    array_remove(array[
        case when t.sources & 1 > 0 then 'general' end,
        case when t.sources & 4 > 0 then 'learning' end,
        case when t.sources & 2 > 0 then 'session' end
    ], null) as sources,
    array(
        select i.item_id from daily_item as i
        where i.user_id = t.user_id and i.activity_date = t.activity_date and i.kind = 'C'
        order by i.item_id
    ) as course_ids,
    array(
        select i.item_id from daily_item as i
        where i.user_id = t.user_id and i.activity_date = t.activity_date and i.kind = 'S'
        order by i.item_id
    ) as solved_problem_ids,
    array(
        select i.item_id from daily_item as i
        where i.user_id = t.user_id and i.activity_date = t.activity_date and i.kind = 'P'
        order by i.item_id
    ) as viewed_problem_ids
from daily_total as t
left join ingest_setting as g on g.projection = 'streaks' and g.name = 'daily_goal';

-- The local date of a moment. An offset is an interval (as a zone name its sign would be turned
-- round); a zone that this server does not know counts as UTC.
create function activity_local_date(moment timestamptz, zone text) returns date
language plpgsql stable as $$
begin
    if zone ~ '^[+-]\d\d:\d\d$' then
        return (moment at time zone zone::interval)::date;
    end if;
    return (moment at time zone zone)::date;
exception when invalid_parameter_value then
    return (moment at time zone 'UTC')::date;
end
$$;

create view streak_status as
select
    s.user_id,
    case when today - s.last_activity_date <= 0 then 'active_today'
        when today - s.last_activity_date = 1 then 'at_risk'
        else 'broken' end as status,
    case when today - s.last_activity_date <= 1 then s.current_streak else 0 end as streak,
    s.max_streak,
    s.last_activity_date,
    coalesce(s.zone, d.value) as timezone
from streaks as s
left join ingest_setting as d on d.projection = 'streaks' and d.name = 'default_timezone'
cross join lateral activity_local_date(now(), coalesce(s.zone, d.value, 'UTC')) as today;

-- write daily (day, span, item)
-- Items that are new are counted by what their insert returns, never by reading the day again. An
-- item that is there already costs no lock and no WAL; a day that is would cost both, so days that
-- would not change are left out before ON CONFLICT.
with added as (
    insert into daily_item (user_id, activity_date, kind, item_id)
    select user_id, activity_date, kind, item_id
    from unnest($7::text[], $8::date[], $9::text[], $10::text[]) as n (user_id, activity_date, kind, item_id)
    order by user_id collate "C", activity_date, kind collate "C", item_id collate "C"
    on conflict do nothing
    returning user_id, activity_date, kind
),
solved as (
    select user_id, activity_date, count(*)::integer as problems
    from added where kind = 'S' group by user_id, activity_date
),
day as (
    select * from unnest($1::text[], $2::date[], $3::smallint[]) as n (user_id, activity_date, sources)
),
day_of_span as (
    select distinct n.user_id, n.first_day + i as activity_date
    from unnest($4::text[], $5::date[], $6::date[]) as n (user_id, first_day, last_day)
    cross join lateral generate_series(0, n.last_day - n.first_day) as i
),
active as (
    select * from day
    union all
    select user_id, activity_date, 0 from day_of_span where (user_id, activity_date) not in (
        select user_id, activity_date from day)
)
insert into daily_total as t (user_id, activity_date, problems_solved, sources)
select d.user_id, d.activity_date, coalesce(s.problems, 0), d.sources
from active as d
left join solved as s on s.user_id = d.user_id and s.activity_date = d.activity_date
-- The limit keeps this a look-up per row: a join could be planned as a scan of the whole table.
left join lateral (
    select t.sources from daily_total as t
    where t.user_id = d.user_id and t.activity_date = d.activity_date limit 1
) as o on true
where o.sources is null or s.problems > 0 or o.sources | d.sources <> o.sources
order by d.user_id collate "C", d.activity_date
on conflict (user_id, activity_date) do update
set problems_solved = t.problems_solved + excluded.problems_solved,
    sources = t.sources | excluded.sources;

-- lock streaks (day, span, streak)
-- Makes or locks the row of every user whose runs are about to change, in key order; the next
-- statement then sees what other writers of these users have committed. ON CONFLICT locks a row also
-- where its WHERE leaves it as it is. A new user's streak is guessed to be one day long, which mostly
-- spares the next statement a second version of the row.
with day as (
    select n.user_id, max(n.last_day) as last_day
    from (
        select user_id, day, day from unnest($1::text[], $2::date[], $3::smallint[]) as d (user_id, day, sources)
        union all
        select * from unnest($4::text[], $5::date[], $6::date[]) as s
    ) as n (user_id, first_day, last_day)
    where coalesce((
        select r.last_day from streak_run as r
        where r.user_id = n.user_id and r.first_day <= n.first_day
        order by r.first_day desc limit 1
    ) < n.last_day, true)
    group by n.user_id
),
streak as (
    select n.user_id, n.imported_max, n.zone_hour, n.zone
    from unnest($7::text[], $8::integer[], $9::timestamptz[], $10::text[]) as n (user_id, imported_max, zone_hour, zone)
    left join lateral (
        select t.imported_max, t.zone_hour, t.zone from streaks as t where t.user_id = n.user_id limit 1
    ) as o on true
    where o.imported_max is null
        or n.imported_max > o.imported_max
        or n.zone_hour > coalesce(o.zone_hour, '-infinity')
        or (n.zone_hour = o.zone_hour and n.zone collate "C" > o.zone)
)
insert into streaks as t (user_id, last_activity_date, current_streak, max_streak, imported_max, zone_hour, zone)
select coalesce(d.user_id, s.user_id), d.last_day, 1, greatest(s.imported_max, 1),
    coalesce(s.imported_max, 0), s.zone_hour, s.zone
from day as d
full join streak as s on s.user_id = d.user_id
order by coalesce(d.user_id, s.user_id) collate "C"
on conflict (user_id) do update
set max_streak = greatest(t.max_streak, excluded.imported_max),
    imported_max = greatest(t.imported_max, excluded.imported_max),
    zone_hour = greatest(t.zone_hour, excluded.zone_hour),
    zone = case
        when t.zone_hour is null or excluded.zone_hour > t.zone_hour then excluded.zone
        when excluded.zone_hour = t.zone_hour then greatest(t.zone, excluded.zone)
        else t.zone end
where excluded.imported_max > t.imported_max
    or excluded.zone_hour > coalesce(t.zone_hour, '-infinity')
    or (excluded.zone_hour = t.zone_hour and excluded.zone > t.zone);

-- write streaks (day, span)
-- A new range of days swallows the runs it overlaps or touches and becomes one run with them. No
-- more than one run in two days can begin inside a range, and one before it: hence the first limit,
-- which keeps a user of a thousand runs as cheap as one of a single run.
with day as (
    select n.user_id, least(n.first_day, r.first_day) as first_day, greatest(n.last_day, r.last_day) as last_day
    from (
        select user_id, day, day from unnest($1::text[], $2::date[], $3::smallint[]) as d (user_id, day, sources)
        union all
        select * from unnest($4::text[], $5::date[], $6::date[]) as s
    ) as n (user_id, first_day, last_day)
    cross join lateral (
        select min(t.first_day) as first_day, max(t.last_day) as last_day,
            bool_or(t.first_day <= n.first_day and t.last_day >= n.last_day) as known
        from (
            select r.first_day, r.last_day from streak_run as r
            where r.user_id = n.user_id and r.first_day <= n.last_day + 1
            order by r.first_day desc
            limit (n.last_day - n.first_day) / 2 + 2
        ) as t
        where t.last_day >= n.first_day - 1
    ) as r
    where r.known is not true
),
island as materialized (
    select user_id, lower(run) as first_day, upper(run) - 1 as last_day
    from (
        select user_id, unnest(range_agg(daterange(first_day, last_day, '[]'))) as run from day group by user_id
    ) as i
),
swallowed as (
    -- By address, because a join could be planned as a scan of the whole table; the lock keeps it true.
    delete from streak_run where ctid = any(array(
        select r.run
        from island as i
        cross join lateral (
            select r.ctid as run from streak_run as r
            where r.user_id = i.user_id and r.first_day > i.first_day and r.first_day <= i.last_day
            limit i.last_day - i.first_day
        ) as r
        where i.last_day > i.first_day
    ))
),
kept as (
    insert into streak_run (user_id, first_day, last_day)
    select user_id, first_day, last_day from island
    order by user_id collate "C", first_day
    on conflict (user_id, first_day) do update set last_day = excluded.last_day
),
latest as (
    select user_id, max(last_day) as last_day, max(last_day) - max(first_day) + 1 as length,
        max(last_day - first_day) + 1 as longest
    from island group by user_id
)
insert into streaks as t (user_id, last_activity_date, current_streak, max_streak)
select l.user_id, greatest(o.last_activity_date, l.last_day),
    case when l.last_day < o.last_activity_date then o.current_streak else l.length end,
    greatest(o.max_streak, l.longest)
from latest as l
cross join lateral (
    select t.last_activity_date, t.current_streak, t.max_streak from streaks as t where t.user_id = l.user_id limit 1
) as o
where l.longest > o.max_streak
    or l.last_day > coalesce(o.last_activity_date, '-infinity')
    or (l.last_day = o.last_activity_date and l.length <> o.current_streak)
order by l.user_id collate "C"
on conflict (user_id) do update
set last_activity_date = excluded.last_activity_date, current_streak = excluded.current_streak,
    max_streak = excluded.max_streak;

-- verify daily_activity
select user_id, activity_date, status, problems_solved, lesson_ids, sources,
    course_ids, solved_problem_ids, viewed_problem_ids
from daily_activity;

-- verify streaks
select user_id, last_activity_date, current_streak, max_streak, zone_hour, zone from streaks;

-- show user
select s.user_id, s.last_activity_date, s.current_streak, s.max_streak, t.status, t.streak, t.timezone
from streaks as s
join streak_status as t using (user_id)
where s.user_id = $1;

-- show user_days
select activity_date, status, problems_solved, lesson_ids, sources
from daily_activity where user_id = $1 order by activity_date desc limit 14;

-- query longest
select user_id, current_streak, max_streak, last_activity_date
from streaks order by max_streak desc, user_id limit $1;

-- query empty
truncate streaks, streak_run, daily_total, daily_item;
