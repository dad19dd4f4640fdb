"""What a check found, and the mend."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from ingest.errors import IngestError, Misconfigured, Unavailable

FOUND, SET_UP, UNREACHABLE = 1, 2, 3


class Level(StrEnum):
    """WARNING: it works, but see the mend. WRONG: it does not work. SKIPPED: nobody could tell."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is the exit code that this finding calls for; `mend` a command or a step."""

    level: Level
    what: str
    mend: str = ""
    code: int = 0
    check: str = ""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"check": self.check, "level": str(self.level), "what": self.what, "mend": self.mend}


Findings: TypeAlias = Sequence[Finding]


def ok(what: str) -> Finding:
    return Finding(Level.OK, what)


def warning(what: str, mend: str) -> Finding:
    return Finding(Level.WARNING, what, mend)


def wrong(what: str, mend: str, code: int = SET_UP) -> Finding:
    return Finding(Level.WRONG, what, mend, code)


def skipped(why: str) -> Finding:
    return Finding(Level.SKIPPED, why)


def failed(error: IngestError, mend: str = "") -> Findings:
    """An error that ended a check; `mend` where it carries none. A finding for each line of it."""
    if isinstance(error, Misconfigured):
        return [wrong(line, error.mend or mend) for line in error.message.splitlines()]
    code = UNREACHABLE if isinstance(error, Unavailable) else FOUND
    return [wrong(error.message, mend, code)]


def exit_code(findings: Iterable[Finding]) -> int:
    """0 where nothing is wrong, else what the first thing that is wrong calls for: it may cause the rest."""
    return next((f.code for f in findings if f.level is Level.WRONG), 0)
