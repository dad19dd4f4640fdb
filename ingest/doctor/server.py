"""Postgres: from the login to the clock."""

from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from importlib.resources import files
from pathlib import Path

from ingest.doctor.finding import FOUND, Finding, Findings, ok, skipped, warning, wrong
from ingest.doctor.patient import Patient
from ingest.migrate import check, require_fit
from ingest.postgres import Database
from ingest.postgres.inspect import clock as time_of
from ingest.postgres.inspect import missing_rights, refuse_old, server_version, standing
from ingest.postgres.pins import plain, stored_settings, variable
from ingest.projection import pinned_names
from ingest.queries import parse

SLIGHT, GROSS = timedelta(seconds=2), timedelta(seconds=60)
LOSSY = {
    "fsync": "a crash of the server may lose or tear rows whose offsets are committed",
    "full_page_writes": "a crash of the server may tear rows whose offsets are committed",
    "synchronous_commit": "a crash of the server may lose rows whose offsets are committed",
}


@cache
def queries() -> Mapping[str, str]:
    """What is asked here and nowhere else."""
    path = Path(str(files("consumers"))).parent / "sql" / "_doctor.sql"
    return parse("_doctor", path.read_text()).queries


async def login(patient: Patient) -> Findings:
    """Whether the database lets us in."""
    settings = patient.settings.postgres
    if not settings.configured:
        return [wrong("no database is named", "set ACTIVITY_POSTGRES__DSN")]
    quick = settings.model_copy(update={"connect_timeout": min(settings.connect_timeout, patient.patience)})
    patient.database = Database(quick, patient.registry.engine)
    patient.exits.push_async_callback(patient.database.close)
    await time_of(patient.database)
    return [ok(f"{settings.address} answers")]


async def version(patient: Patient) -> Findings:
    """Release, encoding, and whether it takes writes."""
    number = await server_version(patient.database)
    refuse_old(number)
    (server,) = await patient.database.fetch(queries()["server"])
    who = await standing(patient.database)
    found: list[Finding] = []
    if server["encoding"] != "UTF8":
        what = f"the database's encoding is {server['encoding']}: most text cannot be stored"
        found.append(wrong(what, "create a database with encoding UTF8"))
    if who.standby:
        found.append(wrong("this server is a standby and takes no writes", "name the primary in the DSN"))
    if who.schema is None:
        what = f"the search path of {who.user} names no schema that exists"
        found.append(wrong(what, "create the schema, or correct search_path in the DSN"))
    return found or [ok(f"PostgreSQL {number // 10000}.{number % 10000}, UTF8, schema {who.schema}")]


async def schema(patient: Patient) -> Findings:
    """Whether the schema is at this worker's version."""
    registry = patient.registry
    pending = await check(patient.settings.postgres, registry.files)
    if pending:
        who = await standing(patient.database)
        found = [
            wrong(f"{len(pending)} migrations are pending, {pending[0]} first", "activity-ingest migrate")
        ]
        if not who.may_create and patient.settings.postgres.migrate_dsn is None:
            what = f"{who.user} may not create tables in schema {who.schema}, which migrations do"
            found.insert(0, wrong(what, f'grant create on schema "{who.schema}" to "{who.user}";'))
        return found
    await require_fit(patient.database, registry.files)
    versions = ", ".join(f"{file.name} {file.version}" for file in registry.files)
    return [ok(f"up to date: {versions}")]


async def rights(patient: Patient) -> Findings:
    """Whether this user may read and write the tables, and read the views."""
    created = [name for file in patient.registry.files for m in file.migrations for name in m.creates]
    lacking = await missing_rights(patient.database, created)
    if not lacking:
        return [skipped("there is no table yet")]
    tables = {row["name"] for row in await patient.database.fetch(queries()["tables"], created)}
    user = (await standing(patient.database)).user
    found: list[Finding] = []
    for name, rights in lacking.items():
        if needed := ", ".join(r.lower() for r in rights if name in tables or r == "SELECT"):
            found.append(wrong(f"{user} may not {needed} {name}", f'grant {needed} on "{name}" to "{user}";'))
    return found or [ok(f"{user} may read and write {len(tables)} tables")]


async def pinned(patient: Patient) -> Findings:
    """Whether the stored rows were made with these settings."""
    found: list[Finding] = []
    alike = 0
    for projection in patient.registry.projections.values():
        name = projection.name
        options = patient.settings.projection(name).options.model_dump()
        stored = await stored_settings(patient.database, name)
        for option in sorted(pinned_names(projection.options) & stored.keys()):
            ours, theirs = plain(options[option]), stored[option]
            alike += ours == theirs
            if ours != theirs:
                what = f"{name}: {option} is {ours} here, the stored rows were made with {theirs}"
                found.append(wrong(what, f"set {variable(name, option)}={theirs}"))
    if not found and not alike:
        return [skipped("none is stored yet: the first start does that")]
    return found or [ok(f"{alike} pinned settings are as they were stored")]


async def durability(patient: Patient) -> Findings:
    """Whether what the server says is written survives its crash."""
    (server,) = await patient.database.fetch(queries()["server"])
    found = [
        warning(f"{name} is off: {meaning}", f"set {name} = on for this server or database")
        for name, meaning in LOSSY.items()
        if server[name] == "off"
    ]
    return found or [ok("what is committed survives a crash")]


async def connections(patient: Patient) -> Findings:
    """Whether there is room for one worker process more."""
    (server,) = await patient.database.fetch(queries()["server"])
    free, needed = server["free"], patient.settings.postgres.pool_size * len(patient.registry.projections)
    said = f"{free} connections are free, a worker process opens up to {needed}"
    if free < needed:
        mend = "raise max_connections, put pgbouncer in front, or lower ACTIVITY_POSTGRES__POOL_SIZE"
        return [warning(said, mend)]
    return [ok(said)]


async def clock(patient: Patient) -> Findings:
    """The server's clock against this machine's."""
    before = patient.clock()
    theirs = await time_of(patient.database)
    after = patient.clock()
    ahead = theirs - (before + (after - before) / 2)
    side = "ahead of" if ahead > timedelta() else "behind"
    said = f"the server's clock is {abs(ahead.total_seconds()):.1f} s {side} this machine's"
    off = abs(ahead) - (after - before)
    if off <= SLIGHT:
        return [ok(said)]
    mend = "let NTP set the clocks of this machine and of the server"
    return [wrong(said, mend, FOUND) if off > GROSS else warning(said, mend)]
