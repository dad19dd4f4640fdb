"""One projection with its tables in a real database, and ways to bring records there."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st
from pydantic import SecretStr

from ingest.batch import Batch, Flush
from ingest.postgres import Database, PostgresSink
from ingest.projection import Projection, Reference, Table, pinned_names
from ingest.record import Partition, Record
from ingest.registry import Registry, load
from ingest.settings import PostgresSettings
from tests.strategies import LIMITS, NOW, PlainRecord, logs

T = TypeVar("T")
FIFTH = Path(__file__).parents[1] / "fixtures" / "fifth"
REGISTRY: Registry = load([FIFTH])
PROJECTIONS = tuple(REGISTRY.projections)


@cache
def logs_of(name: str) -> st.SearchStrategy[list[PlainRecord]]:
    """Records of the topic that the projection `name` reads."""
    return logs(REGISTRY.projections[name], REGISTRY.catalogue)


class Bench:
    """Folds and writes records of one projection, and reads what its tables then hold."""

    def __init__(self, name: str, dsn: str, runner: asyncio.Runner, **options: Any) -> None:
        self.projection: Projection = REGISTRY.projections[name]
        self.sql = REGISTRY.sql[name]
        self.options = self.projection.options(**options)
        self.decoder = REGISTRY.decoder(self.projection, LIMITS)
        self._runner = runner
        settings = PostgresSettings(dsn=SecretStr(dsn), pool_size=3)
        self.database = Database(settings, REGISTRY.engine)
        self.sink = PostgresSink(self.database, self.projection, self.sql)
        self.run(self._pin())
        self.tables = self.run(self._columns())
        self.types: Mapping[str, Sequence[str]] = self.run(self._argument_types())
        self._everything = self._reading()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    async def _pin(self) -> None:
        from ingest.postgres.pins import put_settings

        values = self.options.model_dump()
        await put_settings(self.database, self.projection.name, values, pinned_names(type(self.options)))

    def reference(self, events: Iterable[Any]) -> Reference:
        """The projection's own account of `events`."""
        reference = self.projection.reference(self.options)
        for event in events:
            reference.add(event)
        return reference

    # -- from records to rows ----------------------------------------------------------------------

    def events(self, records: Sequence[Record]) -> list[Any]:
        return list(self.decoder.decode_all(records, NOW).events)

    def flush(self, records: Sequence[Record]) -> Flush:
        """What a worker makes of these records when they come in one batch."""
        batch = Batch(self.projection, self.options, self.decoder, generation=0)
        if records:
            batch.add(Partition(self.projection.topic, 0), records, NOW, 0.0)
        return batch.close("test")

    async def write(self, *parts: Sequence[Record]) -> None:
        """Each part as a flush of its own, one after the other."""
        for part in parts:
            await self.sink.write(self.flush(part), ())

    # -- what the tables hold ----------------------------------------------------------------------

    def after(self, *parts: Sequence[Record]) -> list[tuple[str, str]]:
        """What empty tables hold once these flushes are written."""

        async def work() -> list[tuple[str, str]]:
            await self.clear()
            await self.write(*parts)
            return await self.contents()

        return self.run(work())

    async def clear(self) -> None:
        async with self.database.transaction() as transaction:
            await transaction.execute("; ".join(f"delete from {table}" for table in self.tables))

    async def contents(self) -> list[tuple[str, str]]:
        """All that the merge law speaks of, as sorted text."""
        rows = await self.database.fetch(self._everything)
        return sorted((row["place"], row["row"]) for row in rows)

    async def verified(self) -> dict[str, list[tuple[Any, ...]]]:
        """The rows of each verify section."""
        async with self.database.transaction("begin_read") as transaction:
            found = {}
            for name, text in self.sql.verifies.items():
                found[name] = [tuple(row.values()) for row in await transaction.fetch(text)]
            return found

    async def sweep(self) -> None:
        """Every sweep of the projection as of now, as if the topic had been read to its end."""
        async with self.database.transaction() as transaction:
            as_of = await transaction.value(self.database.sql["clock"])
            for text in self.sql.sweeps.values():
                await transaction.value(text, as_of, 1000)

    def stores(self, table: Table) -> bool:
        """Whether `table` is a table of the database with all the columns of its rows."""
        return set(table.columns) <= set(self.tables.get(table.name, ()))

    async def _argument_types(self) -> dict[str, list[str]]:
        """Per table of the projection the array types that the statements give its columns."""
        types: dict[str, list[str]] = {}
        for write in self.sql.writes:
            async with self.database.transaction() as transaction:
                await transaction.execute(f"prepare law as {write.text}")
                found = await transaction.value(
                    "select parameter_types::text[] from pg_prepared_statements where name = 'law'"
                )
                await transaction.execute("deallocate law")
            for name in write.tables:
                width = len(self.projection.tables[self.projection.table(name)].columns)
                types[name], found = found[:width], found[width:]
        return types

    async def _columns(self) -> dict[str, list[str]]:
        created = [name for migration in self.sql.migrations for name in migration.creates]
        rows = await self.database.fetch(
            "select c.relname::text as name, a.attname::text as attribute from pg_class as c "
            "join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped "
            "where c.relkind = 'r' and c.relname = any($1::text[]) order by 1, a.attnum",
            created,
        )
        tables: dict[str, list[str]] = {}
        for row in rows:
            tables.setdefault(row["name"], []).append(row["attribute"])
        return tables

    def _reading(self) -> str:
        """Helper tables whole; of a table that is verified, what verify reads and what a fold provides.

        What is left out are write clocks and what depends on the present moment.
        """
        provided = {column for table in self.projection.tables for column in table.columns}
        parts = [
            f"select 'verify {name}' as place, v::text as row from ({text.rstrip('; ')}\n) as v"
            for name, text in self.sql.verifies.items()
        ]
        for table, columns in self.tables.items():
            kept = [c for c in columns if c in provided] if table in self.sql.verifies else columns
            row = ", ".join(f't."{column}"' for column in kept)
            parts.append(f"select '{table}', row({row})::text from {table} as t")
        return "\nunion all\n".join(parts)
