"""Whatever asyncpg, the network or a time-out raises -> the error tree, so that a class is a reaction.

Messages carry what Postgres says first, never its DETAIL: that quotes the row, ids and all.
"""

import ssl

import asyncpg

from ingest.errors import IngestError, Misconfigured, TimedOut, Unavailable, Unstorable
from ingest.postgres.access import DSN_MEND
from ingest.retry import CONNECTION, STALE_PLAN, TIME_OUT, Reaction, rule

FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # TimeoutError is one
    ValueError,
)
"""What a call into asyncpg can raise when the database, not a bug of ours, is at fault."""

LONGEST = 300  # characters kept of what was said: it ends up in log lines and headers
_TLS_MEND = "check sslmode and sslrootcert against the server's certificate"
_SQL_MEND = "make the .sql file and the columns of its projection agree"
_STALE = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)


def while_connecting(error: Exception, address: str) -> IngestError:
    """A failure before the first statement: no data is involved yet."""
    said = f"Postgres at {address}: {_said(error)}"
    if isinstance(error, asyncpg.PostgresError):
        met = rule(error.sqlstate or "")
        if "unsupported startup parameter" in said:
            return Misconfigured(said, "set ACTIVITY_POSTGRES__PGBOUNCER=true: this is a pooler")
        if met.reaction is Reaction.TRANSIENT:
            return Unavailable(said, met.cause)
        return Misconfigured(said, met.mend if met.code in ("28", "3D") else DSN_MEND)
    if isinstance(error, ssl.SSLCertVerificationError) or "rejected SSL" in str(error):
        return Misconfigured(said, _TLS_MEND)
    if isinstance(error, (OSError, asyncpg.InternalClientError)):
        return Unavailable(said, CONNECTION)
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError):
        return Unavailable(said, CONNECTION)
    return Misconfigured(said, DSN_MEND)


def while_working(error: Exception, *, connected: bool, what: str = "") -> IngestError:
    """A failure of a statement. `connected`: whether the connection outlived it."""
    if isinstance(error, asyncpg.ConnectionDoesNotExistError) and isinstance(
        error.__cause__, asyncpg.PostgresError
    ):
        error = error.__cause__  # what the server said before it hung up
    said = f"{what}: {_said(error)}" if what else _said(error)
    if isinstance(error, _STALE):
        return Unavailable(said, STALE_PLAN)
    if isinstance(error, asyncpg.DataError) and not error.message:
        # Raised by asyncpg itself, whose own text quotes the value; its cause says only what is wrong.
        wrong = f"a value does not fit its column: {_cause(error)}"
        return Unstorable(f"{what}: {wrong}" if what else wrong, "22000")
    if isinstance(error, asyncpg.PostgresError):
        return _refused(error, said)
    if isinstance(error, TimeoutError):
        return TimedOut(said, TIME_OUT)
    if connected and isinstance(error, (asyncpg.InterfaceError, ValueError)):
        return Misconfigured(said, _SQL_MEND)
    return Unavailable(said, CONNECTION)


def _refused(error: asyncpg.PostgresError, said: str) -> IngestError:
    sqlstate = error.sqlstate or ""
    met = rule(sqlstate)
    if met.reaction is Reaction.DATA:
        return Unstorable(said, sqlstate, error.constraint_name)
    if met.reaction is Reaction.FATAL:
        return Misconfigured(f"{said} (SQLSTATE {sqlstate})", met.mend)
    return TimedOut(said, met.cause) if met.cause == TIME_OUT else Unavailable(said, met.cause)


def _said(error: Exception) -> str:
    # Only the first argument: the text of asyncpg's errors adds DETAIL and HINT to it.
    first = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    text = " ".join(first.split())[:LONGEST]
    return text or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def _cause(error: Exception) -> str:
    cause = error.__cause__
    if isinstance(cause, UnicodeError) or cause is None:
        return "not encodable"
    return " ".join(str(cause).split())
