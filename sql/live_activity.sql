-- Who is doing what right now? Sessions and their latest heartbeat.

-- migration 1: live_activity
create table if not exists live_activity (
    user_id text collate "C",
    session_id text collate "C",
    -- Not unique: a_b + c and a + b_c spell the same.
    id text,
    activity_type text,
    content_id text,
    content_title text,
    content_type text,
    season_number integer,
    episode_number integer,
    current_position integer,
    duration integer,
    quality text,
    device_type text,
    country text,
    started_at bigint not null,
    last_heartbeat bigint not null,
    created_at bigint not null,
    updated_at bigint not null,
    is_active boolean not null,
    primary key (user_id, session_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
alter table live_activity
    add column if not exists id text,
    add column if not exists heartbeat_time timestamptz,
    add column if not exists heartbeat_source text collate "C",
    add column if not exists heartbeat_id text collate "C",
    add column if not exists ended_time timestamptz;
-- Sessions that were here before this service have no µs times: their milliseconds are the best known.
update live_activity
set id = 'live_' || user_id || '_' || session_id,
    heartbeat_time = to_timestamp(last_heartbeat / 1000.0), heartbeat_source = '', heartbeat_id = ''
where heartbeat_time is null;
-- Ten minutes of heartbeats share a slot: the index serves "active since", and updates stay HOT.
alter table live_activity
    add column if not exists heartbeat_slot bigint generated always as (last_heartbeat / 600000) stored;
create index if not exists live_activity_active_slot on live_activity (is_active, heartbeat_slot);
-- With user_id in it, so that a look-up of one row is as exact here as in the primary key, whichever
-- of the two is taken; a new row costs 3 % more for it.
create index if not exists live_activity_session_id on live_activity (session_id, user_id);

create function activity_epoch_ms(moment timestamptz) returns bigint
language sql immutable parallel safe as $$
    select floor(extract(epoch from moment at time zone 'UTC') * 1000)::bigint
$$;

-- Order of two heartbeats of one time, as in the fold: source, id, then the columns; null first.
create function live_activity_rank(
    source text, id text, activity_type text, content_id text, content_title text, content_type text,
    season_number integer, episode_number integer, current_position integer, duration integer,
    quality text, device_type text, country text
) returns text[]
language sql immutable parallel safe as $$
    select array[
        source, id,
        coalesce('.' || activity_type, ''), coalesce('.' || content_id, ''),
        coalesce('.' || content_title, ''), coalesce('.' || content_type, ''),
        coalesce(lpad(season_number::text, 10, '0'), ''), coalesce(lpad(episode_number::text, 10, '0'), ''),
        coalesce(lpad(current_position::text, 10, '0'), ''), coalesce(lpad(duration::text, 10, '0'), ''),
        coalesce('.' || quality, ''), coalesce('.' || device_type, ''), coalesce('.' || country, '')
    ]
$$;

-- The moment at or before which a last heartbeat means silence: judged by how far the topic was
-- read, not by the wall clock, so that a backlog is never mistaken for silence.
create function live_activity_cutoff(as_of timestamptz) returns timestamptz
language sql stable as $$
    select as_of - make_interval(secs => coalesce((
        select s.value::integer from ingest_setting as s
        where s.projection = 'live_activity' and s.name = 'live_timeout'), 600))
$$;

-- write live_activity (live_activity)
with clock as materialized (
    select activity_epoch_ms(clock_timestamp()) as now_ms,
        -- Unknown while any partition is, as for the sweep.
        coalesce(live_activity_cutoff(
            case when bool_and(read_up_to is not null) then min(read_up_to) end), '-infinity') as cutoff
    from ingest_progress where projection = 'live_activity'
),
new as (
    select n.*
    from unnest(
        $1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[],
        $6::timestamptz[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
        $13::integer[], $14::integer[], $15::integer[], $16::integer[], $17::text[], $18::text[], $19::text[]
    ) as n (
        user_id, session_id, started_at, last_heartbeat, ended_time,
        heartbeat_time, heartbeat_source, heartbeat_id, activity_type, content_id, content_title, content_type,
        season_number, episode_number, current_position, duration, quality, device_type, country
    )
    left join lateral (
        select * from live_activity as t where t.user_id = n.user_id and t.session_id = n.session_id limit 1
    ) as o on true
    where o.started_at is null
        or n.heartbeat_time > coalesce(o.heartbeat_time, '-infinity')
        or n.last_heartbeat > o.last_heartbeat
        or n.started_at < o.started_at
        or n.ended_time > coalesce(o.ended_time, '-infinity')
        or (n.heartbeat_time = o.heartbeat_time and live_activity_rank(
            n.heartbeat_source, n.heartbeat_id, n.activity_type, n.content_id, n.content_title,
            n.content_type, n.season_number, n.episode_number, n.current_position, n.duration, n.quality,
            n.device_type, n.country) > live_activity_rank(
            o.heartbeat_source, o.heartbeat_id, o.activity_type, o.content_id, o.content_title,
            o.content_type, o.season_number, o.episode_number, o.current_position, o.duration, o.quality,
            o.device_type, o.country) collate "C")
)
insert into live_activity as t (
    user_id, session_id, id, started_at, last_heartbeat, created_at, updated_at, is_active, ended_time,
    heartbeat_time, heartbeat_source, heartbeat_id, activity_type, content_id, content_title, content_type,
    season_number, episode_number, current_position, duration, quality, device_type, country
)
select
    n.user_id, n.session_id, 'live_' || n.user_id || '_' || n.session_id,
    n.started_at, n.last_heartbeat, c.now_ms, c.now_ms,
    coalesce(n.heartbeat_time > greatest(n.ended_time, c.cutoff), false), n.ended_time,
    n.heartbeat_time, n.heartbeat_source, n.heartbeat_id,
    n.activity_type, n.content_id, n.content_title, n.content_type,
    n.season_number, n.episode_number, n.current_position, n.duration, n.quality, n.device_type, n.country
from new as n
cross join clock as c
order by n.user_id collate "C", n.session_id collate "C"
on conflict (user_id, session_id) do update
set started_at = least(t.started_at, excluded.started_at),
    last_heartbeat = greatest(t.last_heartbeat, excluded.last_heartbeat),
    updated_at = excluded.updated_at,
    ended_time = greatest(t.ended_time, excluded.ended_time),
    is_active = coalesce(
        greatest(t.heartbeat_time, excluded.heartbeat_time)
        > greatest(t.ended_time, excluded.ended_time, (select cutoff from clock)), false),
    (
        heartbeat_time, heartbeat_source, heartbeat_id, activity_type, content_id, content_title, content_type,
        season_number, episode_number, current_position, duration, quality, device_type, country
    ) = (
        select
            case when w.wins then excluded.heartbeat_time else t.heartbeat_time end,
            case when w.wins then excluded.heartbeat_source else t.heartbeat_source end,
            case when w.wins then excluded.heartbeat_id else t.heartbeat_id end,
            case when w.wins then excluded.activity_type else t.activity_type end,
            case when w.wins then excluded.content_id else t.content_id end,
            case when w.wins then excluded.content_title else t.content_title end,
            case when w.wins then excluded.content_type else t.content_type end,
            case when w.wins then excluded.season_number else t.season_number end,
            case when w.wins then excluded.episode_number else t.episode_number end,
            case when w.wins then excluded.current_position else t.current_position end,
            case when w.wins then excluded.duration else t.duration end,
            case when w.wins then excluded.quality else t.quality end,
            case when w.wins then excluded.device_type else t.device_type end,
            case when w.wins then excluded.country else t.country end
        from (select coalesce(
            t.heartbeat_time is null or excluded.heartbeat_time > t.heartbeat_time
            or (excluded.heartbeat_time = t.heartbeat_time and live_activity_rank(
            excluded.heartbeat_source, excluded.heartbeat_id, excluded.activity_type, excluded.content_id,
            excluded.content_title, excluded.content_type, excluded.season_number, excluded.episode_number,
            excluded.current_position, excluded.duration, excluded.quality, excluded.device_type,
            excluded.country) > live_activity_rank(
            t.heartbeat_source, t.heartbeat_id, t.activity_type, t.content_id, t.content_title,
            t.content_type, t.season_number, t.episode_number, t.current_position, t.duration, t.quality,
            t.device_type, t.country) collate "C"), false)
            and excluded.heartbeat_time is not null as wins
        ) as w
    );

-- sweep live_activity
-- Sessions whose last heartbeat lies too far back; locked in key order like every other writer.
with due as (
    select l.user_id, l.session_id
    from live_activity as l, live_activity_cutoff($1) as cutoff
    where l.is_active and l.heartbeat_slot <= activity_epoch_ms(cutoff) / 600000 and l.heartbeat_time <= cutoff
    order by l.user_id collate "C", l.session_id collate "C"
    limit $2
    for update of l
),
swept as (
    update live_activity as l
    set is_active = false, updated_at = activity_epoch_ms(clock_timestamp())
    from due as d
    where l.user_id = d.user_id and l.session_id = d.session_id
    returning l.user_id
)
select count(*) from swept;

-- gauge live_sessions
select coalesce(activity_type, 'unknown'), count(*)::double precision
from live_activity where is_active group by activity_type;

-- gauge users_active
select '', count(distinct user_id)::double precision from live_activity where is_active;

-- verify live_activity
-- The last column says whether is_active fits the clock: between the two bounds the sweep decides.
select user_id, session_id, id, started_at, last_heartbeat, ended_time, heartbeat_time, heartbeat_source, heartbeat_id,
    activity_type, content_id, content_title, content_type, season_number, episode_number, current_position, duration,
    quality, device_type, country,
    case
        when heartbeat_time is null or ended_time >= heartbeat_time then not is_active
        when heartbeat_time > live_activity_cutoff(now()) then is_active
        else true end as is_active_fits_the_clock
from live_activity;

-- show user
select session_id, activity_type, content_title, device_type, country, is_active, heartbeat_time, ended_time
from live_activity where user_id = $1 order by last_heartbeat desc limit 14;

-- show session
select user_id, session_id, activity_type, content_id, content_title, device_type, country, is_active,
    heartbeat_time, ended_time, current_position, duration
from live_activity where session_id = $1 order by user_id;

-- query empty
truncate live_activity;
