-- What `activity-ingest doctor` asks of a server, beside what the engine asks of it anyway.

-- query server
select current_setting('server_encoding') as encoding,
    current_setting('fsync') as fsync,
    current_setting('full_page_writes') as full_page_writes,
    current_setting('synchronous_commit') as synchronous_commit,
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
        - (select count(*)::integer from pg_stat_activity where backend_type = 'client backend') as free;

-- query tables
-- Those of these relations that hold rows of their own.
select c.relname::text as name
from pg_class as c
where c.relnamespace = to_regnamespace(quote_ident(current_schema()))
    and c.relname = any($1::text[]) and c.relkind in ('r', 'p')
order by c.relname;
