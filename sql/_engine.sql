-- What the engine keeps for itself: schema versions, pinned settings, progress, leases, epochs.
--
-- PostgreSQL 14 or newer. Names that are compared or sorted are COLLATE "C", as Python compares them.

-- migration 1: the engine's own tables
create table ingest_migration (
    file text collate "C",
    version integer,
    title text not null,
    min_worker integer not null,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp(),
    primary key (file, version)
);
comment on table ingest_migration is 'Schema versions. min_worker: the oldest worker version that still works with it.';

create table ingest_setting (
    projection text collate "C",
    name text collate "C",
    value text not null,
    pinned boolean not null,
    primary key (projection, name)
);
comment on table ingest_setting is 'Settings that SQL reads. Rows already stored depend on the pinned ones: they change by refold only.';

-- A few rows, updated with every flush: room on the page keeps the updates HOT and the table small.
create table ingest_progress (
    projection text collate "C",
    topic text collate "C",
    partition integer,
    next_offset bigint not null,
    read_up_to timestamptz,
    primary key (projection, topic, partition)
) with (fillfactor = 50);
comment on column ingest_progress.next_offset is 'Every record below this offset is durable here, or dead-lettered, or not ours.';
comment on column ingest_progress.read_up_to is 'The topic was read up to this moment; null until that is known.';

create table ingest_lease (
    name text collate "C" primary key,
    holder text not null,
    fencing bigint not null,
    expires_at timestamptz not null
) with (fillfactor = 50);
comment on column ingest_lease.fencing is 'Rises whenever the lease changes hands; whoever acts outside Postgres shows it.';

create table ingest_epoch (
    projection text collate "C" primary key,
    epoch bigint not null
);
comment on table ingest_epoch is 'Raised when rows vanish or change other than by a flush, so that workers forget what they remember of them.';

-- query begin
begin;

-- query begin_read
begin read only;

-- query begin_snapshot
begin isolation level repeatable read read only;

-- query commit
commit;

-- query rollback
rollback;

-- query savepoint
savepoint here;

-- query undo
rollback to savepoint here;

-- query set_local
-- Behind a transaction pooler a session belongs to many clients: settings last one transaction.
select set_config(s.name, s.value, true) from unnest($1::text[], $2::text[]) as s (name, value);

-- query clock
select clock_timestamp();

-- query snapshot_time
select now();

-- query server_version
select current_setting('server_version_num')::integer;

-- query standing
-- Where new tables go, and whether this user may make any.
select current_user as "user", current_database() as database, current_schema() as schema,
    coalesce(has_schema_privilege(current_schema(), 'create'), false) as may_create,
    pg_is_in_recovery() as standby;

-- query rights
select t.name as "table", array(
    select p.name from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as p (name)
    where not has_table_privilege(to_regclass(quote_ident(t.name)), p.name)
) as missing, to_regclass(quote_ident(t.name)) is not null as "exists"
from unnest($1::text[]) as t (name)
order by t.name collate "C";

-- query put_progress
-- Sorted, so that two writers of the same partitions never wait for each other in a circle. Nothing at
-- all is written where a row is behind what the writer knows to be stored: the database went back.
with new as (
    select * from unnest($2::text[], $3::integer[], $4::bigint[], $5::timestamptz[], $6::bigint[])
        as n (topic, partition, next_offset, read_up_to, stored)
)
insert into ingest_progress as p (projection, topic, partition, next_offset, read_up_to)
select $1, n.topic, n.partition, n.next_offset, n.read_up_to
from new as n
where not exists (
    select from new as k
    left join ingest_progress as o
        on o.projection = $1 and o.topic = k.topic and o.partition = k.partition
    where k.stored > coalesce(o.next_offset, -1)
)
order by n.topic collate "C", n.partition
on conflict (projection, topic, partition) do update
set next_offset = excluded.next_offset, read_up_to = coalesce(excluded.read_up_to, p.read_up_to);

-- query start_offsets
select partition, next_offset from ingest_progress
where projection = $1 and topic = $2 and partition = any($3::integer[]);

-- query progress
select projection, topic, partition, next_offset, read_up_to from ingest_progress;

-- query as_of
-- The moment up to which the whole topic was read; null while any of its partitions is unknown.
select case when count(read_up_to) >= $3::bigint then min(read_up_to) end
from ingest_progress where projection = $1 and topic = $2 and partition < $3::bigint;

-- query put_settings
-- What is pinned is stored once and kept; the rest follows whoever started last.
insert into ingest_setting as s (projection, name, value, pinned)
select $1, n.name, n.value, n.pinned
from unnest($2::text[], $3::text[], $4::boolean[]) as n (name, value, pinned)
order by n.name collate "C"
on conflict (projection, name) do update
set value = case when excluded.pinned then s.value else excluded.value end, pinned = excluded.pinned
where s.pinned <> excluded.pinned or (not excluded.pinned and s.value <> excluded.value);

-- query forget
-- How far a projection was read and what its rows depended on: it begins anew.
with progress as (delete from ingest_progress where projection = $1)
delete from ingest_setting where projection = $1;

-- query raise_epoch
insert into ingest_epoch as e (projection, epoch) values ($1, 1)
on conflict (projection) do update set epoch = e.epoch + 1;

-- query settings
select name, value, pinned from ingest_setting where projection = $1 order by name;

-- query lease_make
-- ON CONFLICT waits for whoever has inserted or updated the row and not committed yet; nobody is to
-- wait here, so it is reached only by the first taker.
insert into ingest_lease (name, holder, fencing, expires_at)
select $1, '', 0, '-infinity'
where not exists (select from ingest_lease where name = $1)
    and pg_try_advisory_xact_lock(hashtextextended('activity-ingest lease ' || $1, 0))
on conflict (name) do nothing;

-- query lease_take
-- SKIP LOCKED: whoever does not get the lease goes on at once. The row stays locked to the end of the
-- transaction, so the work in it is the holder's alone even when it outlasts the expiry.
with free as (
    select name, holder, expires_at from ingest_lease
    where name = $1 and (holder = $2 or expires_at <= clock_timestamp())
    for update skip locked
)
update ingest_lease as l
set holder = $2, expires_at = clock_timestamp() + $3::interval,
    fencing = l.fencing + (free.holder <> $2 or free.expires_at <= clock_timestamp())::integer
from free where l.name = free.name
returning l.fencing;

-- query lease_check
select fencing from ingest_lease
where name = $1 and holder = $2 and fencing = $3 and expires_at > clock_timestamp()
for update;

-- query lease_release
update ingest_lease set expires_at = '-infinity' where name = $1 and holder = $2;

-- query no_limits
-- For a session that is closed after one long statement.
select set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false);

-- query try_lock
-- Tried again and again rather than waited for: a waiting statement holds a snapshot, for which
-- `create index concurrently` would wait in turn.
select pg_try_advisory_xact_lock(hashtextextended('activity-ingest/' || current_schema(), 0));

-- query relations
select c.relname::text as name from pg_class as c
where c.relnamespace = to_regnamespace(quote_ident(current_schema())) and c.relkind in ('r', 'p', 'v', 'm', 'f');

-- query migrations
select file, version, title, min_worker, checksum from ingest_migration order by file, version;

-- query put_migration
insert into ingest_migration (file, version, title, min_worker, checksum) values ($1, $2, $3, $4, $5);

-- query scratch
-- New tables land in the first schema of the path, and what a migration only reads is found behind it.
do $$
begin
    execute format('create schema ingest_scratch_%s', pg_backend_pid());
    perform set_config(
        'search_path', format('ingest_scratch_%s, %s', pg_backend_pid(), current_setting('search_path')), true);
end
$$;

-- query columns
select c.relname::text as relation, c.relkind::text as kind, a.attname::text as column,
    format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as required,
    a.attgenerated <> '' as generated, a.atthasdef or a.attidentity <> '' as filled
from pg_class as c
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = to_regnamespace(quote_ident(current_schema())) and c.relkind in ('r', 'p', 'v', 'm', 'f')
order by c.relname, a.attnum;

-- query keys
-- Only these can stop a doubled row or be named in ON CONFLICT.
select c.relname::text as relation, array(
    select a.attname::text
    from unnest(i.indkey::smallint[]) with ordinality as k (number, place)
    join pg_attribute as a on a.attrelid = c.oid and a.attnum = k.number
    where k.place <= i.indnkeyatts
    order by a.attname
) as columns
from pg_index as i
join pg_class as c on c.oid = i.indrelid
where c.relnamespace = to_regnamespace(quote_ident(current_schema()))
    and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null;
