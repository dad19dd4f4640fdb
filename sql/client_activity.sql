-- When was each client first and last seen?

-- migration 1: client_activity
-- fillfactor 80 leaves room for the next version of a row on its own page; no column that changes
-- with every event is indexed, so that updates stay HOT.
create table if not exists client_activity (
    client_id varchar(50) collate "C" primary key,
    last_seen timestamptz not null,
    created_at timestamptz not null
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
-- "Inactive for N days" asks an index for the day: it changes once a day, last_seen with each event.
alter table client_activity
    add column if not exists last_seen_day date
    generated always as ((last_seen at time zone 'UTC')::date) stored;
create index if not exists client_activity_last_seen_day on client_activity (last_seen_day);

-- write client_activity (client_activity)
-- Rows that would not change are left out before ON CONFLICT, which would lock them and write WAL.
-- The limit keeps this a look-up per row: a join could be planned as a scan of the whole table.
insert into client_activity as t (client_id, last_seen, created_at)
select n.client_id, n.last_seen, n.created_at
from unnest($1::varchar[], $2::timestamptz[], $3::timestamptz[]) as n (client_id, last_seen, created_at)
left join lateral (
    select t.last_seen, t.created_at from client_activity as t where t.client_id = n.client_id limit 1
) as o on true
where o.last_seen is null or n.last_seen > o.last_seen or n.created_at < o.created_at
order by n.client_id collate "C"
on conflict (client_id) do update
set last_seen = greatest(t.last_seen, excluded.last_seen),
    created_at = least(t.created_at, excluded.created_at)
where excluded.last_seen > t.last_seen or excluded.created_at < t.created_at;

-- verify client_activity
select client_id, last_seen, created_at from client_activity;

-- show client
select client_id, last_seen, created_at from client_activity where client_id = $1;

-- inactive clients
select client_id, last_seen, created_at
from client_activity
where last_seen_day <= ($1::timestamptz at time zone 'UTC')::date and last_seen <= $1
order by last_seen, client_id
limit $2;

-- query empty
truncate client_activity;
