"""Everything that speaks to Postgres, and the only importer of asyncpg.

    access.py       settings -> how to connect: DSN, TLS, session settings, time-outs
    pool.py         connections: opened late, kept while they are good, never after a failure
    translate.py    whatever asyncpg or the network raises -> the error tree
    database.py     a transaction, a read, a snapshot
    sink.py         one flush in one transaction
    progress.py     how far each topic was read
    pins.py         settings that stored rows depend on
    leases.py       one at a time, and the sweep
    inspect.py      clock, version, rights and gauges, for whoever looks from outside

All SQL is in sql/*.sql; a failure is translated where it is met, so nothing of asyncpg's escapes.
"""

from ingest.postgres.database import Database, Transaction
from ingest.postgres.sink import PostgresSink

__all__ = ["Database", "PostgresSink", "Transaction"]
