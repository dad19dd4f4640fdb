"""What to do when Postgres refuses: SQLSTATE -> reaction, how long to wait, which half to try. Pure.

`RULES` is the failure policy itself; the table in the README is made from it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

Item = TypeVar("Item")

TIME_OUTS_BEFORE_HALVING = 3


class Reaction(StrEnum):
    """The three ways to go on after a refusal."""

    TRANSIENT = "transient"
    DATA = "data"
    FATAL = "fatal"


@dataclass(frozen=True, slots=True)
class Rule:
    """How one SQLSTATE (five characters) or a class of them (the first two) is met.

    `cause` labels the retry metric; `mend` is what an operator can do where waiting does not help.
    """

    code: str
    reaction: Reaction
    cause: str
    meaning: str
    mend: str = ""


_T, _D, _F = Reaction
_MIGRATE = "run `activity-ingest migrate` with the same version as the workers"
_RIGHTS = "grant the missing right to this user; `activity-ingest doctor` lists them"

RULES: tuple[Rule, ...] = (
    Rule("08", _T, "connection", "the connection was lost or refused"),
    Rule("25P02", _T, "transaction", "the transaction had failed already"),
    Rule("25P03", _T, "transaction", "the transaction was idle for too long"),
    Rule("25P04", _T, "timeout", "the transaction took too long"),
    Rule("25006", _T, "read_only", "the server accepts no writes: a standby, or a failover under way"),
    Rule("26", _T, "statement", "the prepared statement is gone: another server behind a pooler"),
    Rule("40", _T, "serialization", "the transaction was rolled back to let another one through"),
    Rule("40P01", _T, "deadlock", "a deadlock was broken at our cost"),
    Rule("42P05", _T, "statement", "the prepared statement exists: another client's, behind a pooler"),
    Rule("53", _T, "resources", "out of memory, disk or connections"),
    Rule("55P03", _T, "locked", "a lock was not granted in time"),
    Rule("57", _T, "operator", "the server is shutting down, starting up, or was told to end the session"),
    Rule("57014", _T, "timeout", "the statement took too long, or was cancelled"),
    Rule("58", _T, "system", "the server met an error of its operating system"),
    Rule("22", _D, "data", "a value does not fit its type"),
    Rule("23", _D, "data", "a constraint is violated"),
    Rule("44", _D, "data", "a row lies outside its view"),
    Rule("54", _D, "data", "a row or value is larger than Postgres allows"),
    Rule("P0001", _D, "data", "a trigger or function raised an exception"),
    Rule("0A", _F, "setup", "the server does not support this", "use PostgreSQL 14 or newer"),
    Rule("21", _F, "bug", "one key came twice in one statement", "report it: rows of a flush must be unique"),
    Rule("28", _F, "setup", "the login was refused", "check user, password and pg_hba.conf"),
    Rule("3D", _F, "setup", "the database does not exist", "create it, or correct the DSN"),
    Rule("3F", _F, "setup", "the schema does not exist", "create it, or correct search_path in the DSN"),
    Rule("42", _F, "setup", "a table, column or function is not as expected", _MIGRATE),
    Rule("42501", _F, "setup", "a right is missing", _RIGHTS),
    Rule("XX", _F, "server", "the server found itself or its data damaged", "look into the server's log"),
)
DEFAULT = Rule("", _F, "server", "anything else", "look up the SQLSTATE, and look into the server's log")

# Failures that carry no SQLSTATE, because no server answered.
CONNECTION, TIME_OUT, STALE_PLAN, POOL = "connection", "timeout", "stale_plan", "pool"
CAUSES = frozenset({CONNECTION, TIME_OUT, STALE_PLAN, POOL, *(r.cause for r in RULES if r.reaction is _T)})
"""Every cause that a transient failure of Postgres can be counted under."""

_BY_CODE = {rule.code: rule for rule in RULES}


def rule(sqlstate: str) -> Rule:
    """The rule for a SQLSTATE: its own, else that of its class, else `DEFAULT`."""
    return _BY_CODE.get(sqlstate) or _BY_CODE.get(sqlstate[:2]) or DEFAULT


def classify(sqlstate: str) -> Reaction:
    """Whether to wait, to look for the bad row, or to stop."""
    return rule(sqlstate).reaction


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waits with a cap, in seconds, and full jitter: of many workers that lost one server
    no two should knock at the same moment."""

    first: float = 0.1
    cap: float = 30.0

    def delay(self, failures: int, random: Callable[[], float]) -> float:
        """How long to wait after so many failures in a row (1 or more); `random` gives [0, 1)."""
        return min(self.cap, self.first * 2.0 ** min(failures - 1, 60)) * random()


@dataclass(slots=True)
class Attempts:
    """The failures in a row of one thing that is tried again and again."""

    backoff: Backoff = field(default_factory=Backoff)
    failures: int = 0
    time_outs: int = 0

    def failed(self, now: float, random: Callable[[], float], *, timed_out: bool = False) -> float:
        """Note a failure at `now` (monotonic, seconds); the moment before which not to try again."""
        self.failures += 1
        self.time_outs = self.time_outs + 1 if timed_out else 0
        return now + self.backoff.delay(self.failures, random)

    @property
    def must_halve(self) -> bool:
        """Whether it may simply be too much for the time limits."""
        return self.time_outs >= TIME_OUTS_BEFORE_HALVING


class Bisection(Generic[Item]):
    """Finds the bad among many by trying `part` again and again: about log2(n) tries for each bad one.

    Parts come in order, so what is stored of one entity is stored in the order it was read.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self._parts = [items] if items else []

    @property
    def part(self) -> Sequence[Item] | None:
        """What to try next, None when all is settled."""
        return self._parts[-1] if self._parts else None

    def stored(self) -> None:
        """The part was good."""
        self._parts.pop()

    def refused(self) -> Item | None:
        """The part was bad: the culprit if it stood alone, else None, and its first half is next."""
        part = self._parts.pop()
        if len(part) == 1:
            return part[0]
        middle = (len(part) + 1) // 2
        self._parts += [part[middle:], part[:middle]]
        return None
