"""Which offsets may be committed: those below the oldest unfinished flush, of the present assignment."""

from collections import deque
from dataclasses import dataclass, field

from ingest.record import Offsets, Partition


@dataclass(slots=True, eq=False)
class Ticket:
    """One flush on its way: where its records end, and under which assignment they were read.

    `noted`: whether its latest attempt carried progress, being the oldest then.
    """

    offsets: Offsets
    generation: int
    finished: bool = False
    noted: bool = False


@dataclass(slots=True)
class Ledger:
    """Flushes in the order they were opened. Flushes may finish in any order; commits may not."""

    generation: int = -1
    _open: deque[Ticket] = field(default_factory=deque)
    _durable: dict[Partition, int] = field(default_factory=dict)

    def assign(self, generation: int) -> None:
        """A new assignment: whatever an earlier one left unfinished or uncommitted is forgotten."""
        self.generation = generation
        self._open.clear()
        self._durable.clear()

    def open(self, offsets: Offsets, generation: int) -> Ticket:
        """Note a flush; tickets must be opened in the order their records were read."""
        ticket = Ticket(offsets, generation)
        if generation == self.generation:
            self._open.append(ticket)
        return ticket

    def is_oldest(self, ticket: Ticket) -> bool:
        """Whether everything before `ticket` is durable, so that its offsets tell the whole truth."""
        return bool(self._open) and self._open[0] is ticket

    def finish(self, ticket: Ticket) -> None:
        """The flush is durable; its offsets count once nothing older is unfinished."""
        ticket.finished = True
        while self._open and self._open[0].finished:
            self._durable.update(self._open.popleft().offsets)

    @property
    def unfinished(self) -> int:
        """Number of flushes of the present assignment that are not durable yet."""
        return len(self._open)

    def take(self) -> Offsets:
        """Offsets that became durable since the last call, to be committed now."""
        durable, self._durable = self._durable, {}
        return durable

    def put_back(self, offsets: Offsets, generation: int) -> None:
        """A commit failed: offer the offsets again, unless newer ones or a new assignment came."""
        if generation == self.generation:
            self._durable = {**offsets, **self._durable}
