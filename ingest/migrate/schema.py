"""What is recorded of a schema, what is pending, and which workers fit it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ingest.errors import Misconfigured
from ingest.queries import Migration, SqlFile


class Recorded(NamedTuple):
    """A migration as Postgres remembers it."""

    title: str
    min_worker: int
    checksum: str


Schema: TypeAlias = Mapping[tuple[str, int], Recorded]
"""(file, version) -> what was applied."""


@dataclass(frozen=True, slots=True)
class Step:
    """One migration. `adopted`: tables that were there before and were kept with their rows."""

    file: str
    version: int
    title: str
    adopted: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file} {self.version}: {self.title}" if self.title else f"{self.file} {self.version}"


def pending(files: Sequence[SqlFile], schema: Schema) -> list[tuple[SqlFile, Migration]]:
    """What is not recorded yet, in order. Raises Misconfigured for an edited or overtaken migration."""
    refuse_edited(files, schema)
    refuse_overtaken(files, schema)
    return [(f, m) for f in files for m in f.migrations if (f.name, m.version) not in schema]


def refuse_edited(files: Sequence[SqlFile], schema: Schema) -> None:
    """A migration that was applied must stay as it was: other databases had the old text."""
    for file in files:
        for migration in file.migrations:
            recorded = schema.get((file.name, migration.version))
            if recorded and recorded.checksum != migration.checksum:
                raise Misconfigured(
                    f"sql/{file.name}.sql: migration {migration.version} was edited after it was applied",
                    "restore its text, and put the change into a new migration after it",
                )


def refuse_overtaken(files: Sequence[SqlFile], schema: Schema) -> None:
    """A schema that no longer takes workers as old as this one must not be touched by it."""
    for file in files:
        recorded = {version: r for (name, version), r in schema.items() if name == file.name}
        needed = max((r.min_worker for r in recorded.values()), default=0)
        if needed > file.version:
            raise Misconfigured(
                f"the schema of {file.name} is at version {max(recorded)} and takes workers that know"
                f" version {needed}; this one knows {file.version}",
                "upgrade this worker to the release that migrated the database",
            )


def refuse_unfit(files: Sequence[SqlFile], schema: Schema) -> None:
    """Raises Misconfigured for a schema older than this worker, too new for it, or edited."""
    if lacking := pending(files, schema):
        file, migration = lacking[0]
        raise Misconfigured(
            f"the schema of {file.name} lacks version {migration.version}, which this worker needs",
            "run `activity-ingest migrate`",
        )
