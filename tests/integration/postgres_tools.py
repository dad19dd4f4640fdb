"""What the tests of the Postgres side share: a database to speak to, a projection to write, a bad line."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from msgspec import Struct
from pydantic import SecretStr

from ingest.batch import Flush
from ingest.errors import IngestError
from ingest.ports import Progress
from ingest.postgres import Database, PostgresSink
from ingest.projection import Projection, Table
from ingest.queries import SqlFile, parse
from ingest.record import Partition
from ingest.settings import PostgresSettings

ENGINE = parse("_engine", (Path(__file__).parents[2] / "sql" / "_engine.sql").read_text())

SHOP_SQL = """
-- migration 1: visits
create table if not exists visit (
    id text collate "C" primary key,
    number integer not null check (number >= 0)
);
create table tag (
    id text collate "C" primary key
);

-- lock visit (visit)
select from visit where id = any($1::text[]) and $2::integer[] is not null for update;

-- write visit (visit)
insert into visit as t (id, number)
select n.id, n.number from unnest($1::text[], $2::integer[]) as n (id, number)
left join visit as o on o.id = n.id
where o.id is null or n.number > o.number
order by n.id collate "C"
on conflict (id) do update set number = greatest(t.number, excluded.number)
where excluded.number > t.number;

-- write tag (tag, visit)
insert into tag (id)
select id from unnest($1::text[]) as n (id)
union select id from unnest($2::text[], $3::integer[]) as v (id, number) where number > 100
on conflict do nothing;

-- verify visit
select id, number from visit;
"""


class Visit(Struct):
    """id, number"""

    id: str
    number: int


class Tag(Struct):
    """id"""

    id: str


def _no_fold(rows: dict[Any, Any], events: Any, options: Any) -> None:
    raise NotImplementedError


def _no_reference(options: Any) -> Any:
    raise NotImplementedError


SHOP = parse("shop", SHOP_SQL)
SHOP_PROJECTION = Projection(
    name="shop",
    topic="shop",
    events=(),
    tables=(Table(name="visit", row=Visit, fold=_no_fold), Table(name="tag", row=Tag, fold=_no_fold)),
    reference=_no_reference,
)
FILES: Sequence[SqlFile] = (ENGINE, SHOP)


def flush(*visits: tuple[str, int], tags: Sequence[str] = ()) -> Flush:
    return Flush(projection="shop", rows=([Visit(*v) for v in visits], [Tag(t) for t in tags]))


def progress(offset: int, number: int = 0, read_up_to: Any = None) -> Progress:
    return Progress(Partition("shop", number), offset, read_up_to)


@asynccontextmanager
async def opened(dsn: str, **settings: Any) -> AsyncIterator[Database]:
    database = Database(PostgresSettings(dsn=SecretStr(dsn), **settings), ENGINE)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def shop(
    dsn: str, file: SqlFile = SHOP, **settings: Any
) -> AsyncIterator[tuple[PostgresSink, Database]]:
    async with opened(dsn, **settings) as database:
        yield PostgresSink(database, SHOP_PROJECTION, file), database


async def raised(sink: PostgresSink, *visits: tuple[str, int], tags: Sequence[str] = ()) -> IngestError:
    with pytest.raises(IngestError) as caught:
        await sink.write(flush(*visits, tags=tags), [progress(1)])
    return caught.value


async def sql(dsn: str, text: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """Run something past the code under test."""
    connection = await asyncpg.connect(dsn)
    try:
        if arguments or text.lstrip().startswith("select"):
            return [tuple(row) for row in await connection.fetch(text, *arguments)]
        await connection.execute(text)
        return []
    finally:
        await connection.close()


class Line:
    """A TCP line to the server that can be cut, or go silent, when a client's message says so."""

    def __init__(self, dsn: str) -> None:
        self._server = urlsplit(dsn)
        self.cut_at: Callable[[bytes], bool] = lambda message: False
        self.silent_at: Callable[[bytes], bool] = lambda message: False
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[str]:
        """The DSN of the line's near end."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        credentials = self._server.netloc.rpartition("@")[0]
        try:
            near = f"{credentials}@127.0.0.1:{port}"
            yield self._server._replace(netloc=near, query="sslmode=disable").geturl()
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks.add(asyncio.create_task(self._carry(reader, writer)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._server.hostname, self._server.port)
        back = asyncio.create_task(self._back(far_reader, writer))
        try:
            while message := await reader.read(1 << 16):
                cut, silent = self.cut_at(message), self.silent_at(message)
                if cut or silent:
                    back.cancel()
                    await asyncio.gather(back, return_exceptions=True)
                far_writer.write(message)
                if cut:
                    # The server's answer shows that it has done what the message asked for.
                    await far_reader.read(1)
                    break
        finally:
            back.cancel()
            for end in (writer, far_writer):
                end.close()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while message := await reader.read(1 << 16):
            writer.write(message)
        writer.close()
