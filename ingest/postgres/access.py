"""Settings -> how to connect: DSN, TLS, session settings and time-outs."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from ingest.errors import Misconfigured
from ingest.settings import PostgresSettings

APPLICATION = "activity-ingest"
DSN_MEND = "correct the ACTIVITY_POSTGRES__* settings; `activity-ingest doctor` shows them"
SESSION = ("application_name", "search_path", "role")
TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey")
# asyncpg would send these to the server as settings, which refuses the connection for them.
LIBPQ_ONLY = (
    "channel_binding", "client_encoding", "connect_timeout", "fallback_application_name", "gssencmode",
    "keepalives", "load_balance_hosts", "require_auth", "sslcompression", "sslsni", "tcp_user_timeout",
)  # fmt: skip
MARGIN = 5.0  # seconds the server gets to report its own time-out before ours cuts the line
PLANNING = {
    # A plan kept from when a table was small scans the whole of it for each row ever after (measured:
    # 500 µs a row and growing, instead of 6); to plan anew costs 0.2 to 1 ms a statement.
    "plan_cache_mode": "force_custom_plan",
    # What a large batch is estimated to cost would have a statement of 50 ms compiled first, for longer.
    "jit": "off",
}
IDLE_IN_TRANSACTION = 60.0  # seconds; nothing of ours waits between two statements that long


@dataclass(frozen=True, slots=True)
class Access:
    """What `asyncpg.connect` is called with, and what each transaction sets for itself."""

    arguments: Mapping[str, Any]
    local: Mapping[str, str]
    address: str
    connect_timeout: float
    command_timeout: float
    pool_size: int


def access(settings: PostgresSettings) -> Access:
    """How to reach the database that `settings` name. Raises Misconfigured for a DSN that cannot be right."""
    dsn, session = _split(settings.dsn.get_secret_value() if settings.dsn else "postgresql://", settings)
    limits = time_limits(settings.command_timeout, settings.lock_timeout)
    session = PLANNING | limits | session | {"timezone": "UTC"}
    application = session.pop("application_name", APPLICATION)
    secret = settings.password
    arguments: dict[str, Any] = {
        "dsn": dsn,
        "user": settings.user,
        "password": secret.get_secret_value() if secret else None,
        "timeout": settings.connect_timeout,
        "command_timeout": settings.command_timeout + MARGIN,
        "statement_cache_size": 0 if settings.pgbouncer else 100,
        "max_cached_statement_lifetime": 0,
        "max_cacheable_statement_size": 1 << 20,
        "server_settings": {"application_name": application} | ({} if settings.pgbouncer else session),
    }
    if settings.dsn is None:
        arguments |= {"host": settings.host, "port": settings.port, "database": settings.database}
    return Access(
        arguments=arguments,
        local=session if settings.pgbouncer else {},
        address=settings.address,
        connect_timeout=settings.connect_timeout,
        command_timeout=settings.command_timeout,
        pool_size=settings.pool_size,
    )


def time_limits(command: float, lock: float) -> dict[str, str]:
    """The server's side of the time-outs; both in seconds."""
    return {
        "statement_timeout": _milliseconds(command),
        "lock_timeout": _milliseconds(lock),
        "idle_in_transaction_session_timeout": _milliseconds(max(command, IDLE_IN_TRANSACTION)),
    }


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def _split(dsn: str, settings: PostgresSettings) -> tuple[str, dict[str, str]]:
    """The DSN with our TLS settings in it, and the session settings (search_path…) taken out.

    Behind pgbouncer those would be refused, or belong to whichever client came before.
    """
    base, _, query = dsn.partition("?")
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
        session = _options(given.pop("options", ""))
    except ValueError as error:
        raise Misconfigured(f"the DSN cannot be read behind its '?': {error}", DSN_MEND) from error
    session |= {name: given.pop(name) for name in SESSION if name in given}
    given = {name: value for name, value in given.items() if not name.startswith(LIBPQ_ONLY)}
    given |= {name: str(value) for name in TLS if (value := getattr(settings, name)) is not None}
    for name in TLS[1:]:
        # Found missing by asyncpg, it would look like a socket that is missing because the server is down.
        if name in given and not Path(given[name]).is_file():
            raise Misconfigured(f"{name} {given[name]} is not there", DSN_MEND)
    return f"{base}?{urlencode(given, quote_via=quote)}" if given else base, session


def _options(options: str) -> dict[str, str]:
    """`-c name=value`, `-cname=value` and `--name=value`, as libpq's `options` spells them."""
    words = [word.removeprefix("-c").removeprefix("--") for word in shlex.split(options)]
    pairs = [word.partition("=") for word in words if word]
    return {name.replace("-", "_"): value for name, _, value in pairs}
