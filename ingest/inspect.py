"""Questions that people ask the tables: all there is of one client, user or session, and who is silent.

Which questions there are is said by the `show` and `inactive` sections of the .sql files, so that a
projection brings its own. `show user` answers from every section called `user` or `user_…`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from ingest.errors import Misconfigured
from ingest.queries import SqlFile
from ingest.registry import Registry

Row = Mapping[str, Any]


class Database(Protocol):
    """What is asked of a database here."""

    async def fetch(self, text: str, *arguments: Any, what: str = "") -> Sequence[Row]: ...


class Answer(NamedTuple):
    """The rows of one section, of the projection it belongs to."""

    projection: str
    section: str
    rows: Sequence[Row]


def kinds(registry: Registry) -> list[str]:
    """What `show` can be asked about."""
    names = {name for file in registry.sql.values() for name in file.shows}
    return sorted(name for name in names if not any(name.startswith(f"{other}_") for other in names))


def groups(registry: Registry) -> list[str]:
    """What `inactive` can list."""
    return sorted({name for file in registry.sql.values() for name in file.inactives})


async def show(database: Database, registry: Registry, kind: str, id: str) -> list[Answer]:
    """All rows about `id`, section by section. Raises Misconfigured for an unknown kind."""
    _refuse_unknown(kind, kinds(registry))
    return [
        Answer(projection, section, await database.fetch(text, id, what=f"show {section}"))
        for projection, file in registry.sql.items()
        for section, text in file.shows.items()
        if section == kind or section.startswith(f"{kind}_")
    ]


class Silence(NamedTuple):
    """Who was not heard from since `cutoff`, the longest silent first."""

    cutoff: datetime
    rows: Sequence[Row]
    more: bool


async def inactive(
    database: Database, file: SqlFile, group: str, now: datetime, silent_for: timedelta, limit: int
) -> Silence:
    """At most `limit` rows of those silent since `silent_for` before `now`. Raises Misconfigured."""
    try:
        cutoff = now - silent_for
    except OverflowError:
        raise Misconfigured("that long ago there was no calendar", "give a shorter duration") from None
    rows = await database.fetch(file.inactives[group], cutoff, limit + 1, what=f"inactive {group}")
    return Silence(cutoff, rows[:limit], len(rows) > limit)


def asked_of(registry: Registry, group: str) -> str:
    """The projection that knows who of `group` is silent. Raises Misconfigured for an unknown one."""
    _refuse_unknown(group, groups(registry))
    return next(name for name, file in registry.sql.items() if group in file.inactives)


def _refuse_unknown(name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise Misconfigured(f"there is no {name!r} to ask about", f"choose from: {', '.join(known)}")
