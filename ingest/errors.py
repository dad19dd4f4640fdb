"""The errors this service raises on purpose: one class per reaction, drawn as a tree.

    IngestError
    ├── Unstorable        the data is at fault         halve the batch, dead-letter what stands alone
    ├── Unavailable       it will pass                 keep the batch, wait, retry; a command: exit 3
    │   └── TimedOut      it took too long             the same; three in a row for one batch: halve it
    ├── Misconfigured     an operator must act         stop, one clear line, exit 2
    │   └── LostOffsets   the log no longer has it     the same, and nothing is skipped silently
    ├── WentBack          Postgres was restored        forget what is held, read again from what it has
    └── FoundWrong        a check found a difference   a command: exit 1

Whoever catches one of these knows what to do from its class alone; the message is for people.
"""


class IngestError(Exception):
    """Base of every error raised on purpose; anything else that escapes is a bug."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unstorable(IngestError):
    """Postgres refused the rows for what is in them; a retry of the same rows fails the same way."""

    def __init__(self, message: str, sqlstate: str, constraint: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.constraint = constraint


class Unavailable(IngestError):
    """Kafka or Postgres cannot serve us now. `cause` is one of a bounded set: it labels a metric."""

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class TimedOut(Unavailable):
    """An operation ran into its time limit; too large a batch is one possible reason."""

    def __init__(self, message: str, cause: str = "timeout") -> None:
        super().__init__(message, cause)


class WentBack(IngestError):
    """Postgres knows less than it was known to: restored from a backup, or a standby took over."""


class Misconfigured(IngestError):
    """Nothing gets better by waiting. `mend` says what to do, as one line for the operator."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message)
        self.mend = mend


class LostOffsets(Misconfigured):
    """The broker no longer has an offset that must be read next: going on would lose records."""


class FoundWrong(IngestError):
    """A command did its work and found something wrong; the message says what."""
