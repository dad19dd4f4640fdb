"""What commands need of the world: settings, projections, Kafka and Postgres, each when first asked for."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path

from ingest import logs, registry, stack
from ingest.cli.output import say
from ingest.contract import Limits
from ingest.errors import Misconfigured
from ingest.kafka import Connection, Lookup, Publisher, thin_out
from ingest.postgres import Database
from ingest.publish import Failures, Outbox
from ingest.registry import Registry, limits
from ingest.settings import (
    KafkaSettings,
    PostgresSettings,
    Settings,
    Variable,
    describe,
    env_example,
    load,
    projection_folders,
)

HERE = Path()
TO_EMBED = (
    "activity-ingest stack up, or name yours by ACTIVITY_KAFKA__BOOTSTRAP_SERVERS and ACTIVITY_POSTGRES__DSN"
)


class Context:
    """One command's view of the world.

    With `start` the embedded stack is started where it is needed. With `quiet`, log lines are left
    to errors, because a command tells people itself what went wrong.
    """

    def __init__(self, start: bool = False, quiet: bool = True) -> None:
        self._start, self._quiet = start, quiet

    @cached_property
    def registry(self) -> Registry:
        """Every projection there is. Raises Misconfigured."""
        return registry.load(projection_folders())

    @cached_property
    def configured(self) -> Settings:
        """The settings as they were given. Raises Misconfigured."""
        return load(self._options)

    @cached_property
    def settings(self) -> Settings:
        """The settings to work with: where neither Kafka nor Postgres is configured, the embedded stack's."""
        given = self.configured
        if self._quiet:
            be_quiet(given.log.level)
        if given.kafka.configured or given.postgres.configured:
            return given
            # What somebody set on purpose wins over what merely suits the embedded stack.
        overrides = {name: value for name, value in self._embedded().items() if name not in given.origins()}
        return load(self._options, overrides=overrides)

    @property
    def limits(self) -> Limits:
        """What an event may be."""
        return limits(self.configured.contract)

    @property
    def kafka(self) -> KafkaSettings:
        """How to reach Kafka. Raises Misconfigured where only Postgres is configured."""
        if not self.settings.kafka.configured:
            raise Misconfigured("no Kafka cluster is named", "set ACTIVITY_KAFKA__BOOTSTRAP_SERVERS")
        return self.settings.kafka

    @property
    def postgres(self) -> PostgresSettings:
        """How to reach Postgres. Raises Misconfigured where only Kafka is configured."""
        if not self.settings.postgres.configured:
            raise Misconfigured("no database is named", "set ACTIVITY_POSTGRES__DSN")
        return self.settings.postgres

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """The database for as long as the block lasts; nothing connects before the first question."""
        database = Database(self.postgres, self.registry.engine)
        try:
            yield database
        finally:
            await database.close()

    def lookup(self, patience: float | None = None) -> Lookup:
        """Questions to the brokers, in an `async with`; `patience` in seconds."""
        return Lookup(Connection(self.kafka), patience)

    @asynccontextmanager
    async def outbox(self, failures: Failures, rate: float | None = None) -> AsyncIterator[Outbox]:
        """For publishing events, at most `rate` a second. Raises Misconfigured where no topic exists."""
        connection = Connection(self.kafka)
        names = {topic: self.kafka.topic(topic) for topic in sorted({*self.registry.catalogue.values()})}
        async with Lookup(connection) as lookup:
            there = await lookup.topics(names.values())
        names = {logical: actual for logical, actual in names.items() if actual in there}
        if not names:
            raise Misconfigured("none of the topics exists", "activity-ingest topics --create")
        async with Publisher(connection, list(names.values()), on_failed=failures.add) as publisher:
            yield Outbox(publisher, names, failures, rate)

    def describe(self) -> Sequence[Variable]:
        return describe(self._options)

    def env_example(self) -> str:
        return env_example(self._options)

    @property
    def _options(self) -> Sequence[tuple[str, type]]:
        return [(p.name, p.options) for p in self.registry.projections.values()]

    def _embedded(self) -> dict[str, str]:
        try:
            variables = stack.up(HERE).env() if self._start else stack.env(HERE)
        except Misconfigured as error:
            mend = TO_EMBED if "not running" in error.message else error.mend
            raise Misconfigured(
                f"neither Kafka nor Postgres is configured, and {error.message}", mend
            ) from error
        say("neither Kafka nor Postgres is configured: using the embedded stack")
        return variables


def be_quiet(level: str) -> None:
    """Log errors only, and nothing of what Kafka's client says, unless `level` is debug."""
    debugging = level == "debug"
    logs.configure(level if debugging else "error")
    thin_out(level=logging.DEBUG if debugging else logging.CRITICAL)
