"""Finds the projections: `consumers/<name>.py` beside `sql/<name>.sql`. Refuses to start where they disagree.

A projection is exactly these two files. They are looked for in the installed package and in any
further folder that holds a `consumers` and a `sql` folder of its own.
"""

import importlib
import importlib.resources
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ingest.contract import KNOWN_EVENTS, Decoder, Event, Limits
from ingest.errors import Misconfigured
from ingest.projection import Projection
from ingest.queries import SqlFile, parse
from ingest.settings import ContractSettings

ENGINE = "_engine"


@dataclass(frozen=True, slots=True)
class Registry:
    """Every projection by name, with its statements; `engine` holds the statements of the engine itself."""

    projections: Mapping[str, Projection]
    sql: Mapping[str, SqlFile]
    engine: SqlFile

    @property
    def files(self) -> Sequence[SqlFile]:
        """All sql files in the order in which their migrations run: the engine's first."""
        return [self.engine, *self.sql.values()]

    @property
    def catalogue(self) -> Mapping[str, str]:
        """Every event type known here -> its topic."""
        brought = [event for p in self.projections.values() for event in p.brings]
        return {event.type_name(): event.topic for event in (*KNOWN_EVENTS, *brought)}

    @property
    def events(self) -> Sequence[type[Event]]:
        """Every event class known here."""
        return [*KNOWN_EVENTS, *(event for p in self.projections.values() for event in p.brings)]

    @property
    def topics(self) -> Sequence[str]:
        """The topics that any projection reads, by their default names."""
        return sorted({p.topic for p in self.projections.values()})

    def select(self, names: Iterable[str]) -> Sequence[Projection]:
        """The projections called `names`, all where none is named; Misconfigured for an unknown one."""
        chosen = list(dict.fromkeys(names)) or list(self.projections)
        for name in chosen:
            if name not in self.projections:
                known = ", ".join(self.projections)
                raise Misconfigured(f"there is no projection called {name!r}", f"choose from: {known}")
        return [self.projections[name] for name in chosen]

    def decoder(self, projection: Projection, limits: Limits) -> Decoder:
        """The decoder for what `projection` folds."""
        return Decoder(projection.events, projection.topic, self.catalogue, limits)


def limits(contract: ContractSettings) -> Limits:
    """What an event may be, as the settings have it."""
    return Limits(
        contract.max_event_bytes, timedelta(seconds=contract.max_clock_skew), contract.earliest_time
    )


def load(extra: Iterable[Path] = ()) -> Registry:
    """All projections, the built-in ones first. Raises Misconfigured naming the file and the mend."""
    projections: dict[str, Projection] = {}
    sql: dict[str, SqlFile] = {}
    for folder in (_built_in(), *extra):
        for projection, file in _folder(folder):
            if projection.name in projections:
                raise Misconfigured(
                    f"two projections are called {projection.name!r}", f"rename the one in {folder}"
                )
            projections[projection.name], sql[projection.name] = projection, file
    engine = parse(ENGINE, (_built_in() / "sql" / f"{ENGINE}.sql").read_text())
    registry = Registry(projections, sql, engine)
    _check_events(registry)
    return registry


def _built_in() -> Path:
    return Path(str(importlib.resources.files("consumers"))).parent


def _folder(folder: Path) -> Iterable[tuple[Projection, SqlFile]]:
    scripts = {p.stem: p for p in sorted((folder / "consumers").glob("*.py")) if not p.stem.startswith("_")}
    texts = {p.stem: p for p in sorted((folder / "sql").glob("*.sql")) if not p.stem.startswith("_")}
    for name in sorted(scripts.keys() ^ texts.keys()):
        have, lack = (scripts, "sql/{}.sql") if name in scripts else (texts, "consumers/{}.py")
        raise Misconfigured(
            f"{have[name]} has no {lack.format(name)}", "a projection is both files: add or remove one"
        )
    if not scripts:
        raise Misconfigured(
            f"{folder} holds no projection", "it must have a consumers/NAME.py and a sql/NAME.sql"
        )
    for name, script in scripts.items():
        projection = _projection(name, script)
        file = parse(name, texts[name].read_text())
        _check(projection, file)
        yield projection, file


def _projection(name: str, script: Path) -> Projection:
    if script.parents[1] == _built_in():
        module = importlib.import_module(f"consumers.{name}")
    else:
        spec = importlib.util.spec_from_file_location(f"consumers.{name}", script)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where annotations of it are looked up
        spec.loader.exec_module(module)
    projection = getattr(module, "PROJECTION", None)
    if not isinstance(projection, Projection) or projection.name != name:
        raise Misconfigured(
            f"{script} declares no PROJECTION named {name!r}", "a projection is called as its file is"
        )
    return projection


def _check(projection: Projection, file: SqlFile) -> None:
    tables = {table.name: table for table in projection.tables}
    used = {name for write in file.writes for name in write.tables}
    where = f"sql/{file.name}.sql"
    for write in file.writes:
        if unknown := [name for name in write.tables if name not in tables]:
            raise Misconfigured(f"{where}: {write.name} names no table of the projection: {unknown[0]}",
                                f"it has: {', '.join(tables)}")  # fmt: skip
        given = sum(len(tables[name].columns) for name in write.tables)
        if write.parameters != given:
            raise Misconfigured(f"{where}: {write.name} takes {write.parameters} values for {given} columns",
                                "use each column as $1, $2 … in order")  # fmt: skip
    if idle := tables.keys() - used:
        raise Misconfigured(
            f"{where}: no statement writes table {min(idle)}", "add a '-- write' section that names it"
        )
    if not file.migrations or not file.verifies:
        raise Misconfigured(
            f"{where} lacks a migration or a verify section", "add '-- migration 1: …' and '-- verify TABLE'"
        )


def _check_events(registry: Registry) -> None:
    known: dict[str, type[Event]] = {}
    for event in registry.events:
        if known.setdefault(event.type_name(), event) is not event:
            raise Misconfigured(f"two event types are called {event.type_name()!r}", "give one another tag")
    for projection in registry.projections.values():
        if strangers := [e.type_name() for e in projection.events if known.get(e.type_name()) is not e]:
            raise Misconfigured(f"{projection.name} folds {strangers[0]!r}, which is not in the contract",
                                "declare it in the projection's `brings`")  # fmt: skip
        if strays := [e.type_name() for e in projection.events if e.topic != projection.topic]:
            raise Misconfigured(
                f"{projection.name} folds {strays[0]!r} of another topic", "a projection reads one topic"
            )
