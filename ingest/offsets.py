"""Which offsets may be committed: those below the oldest unfinished flush, of the present assignment."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ingest.record import Offsets, Partition


@dataclass(slots=True, eq=False)
class Ticket:
    """One flush on its way: where its records end, and under which assignment they were read.

    `reached` tells up to which moment the log is in it. `note` is the progress that its latest
    attempt carried.
    """

    offsets: Offsets
    generation: int
    reached: Mapping[Partition, datetime] = field(default_factory=dict)
    finished: bool = False
    note: Offsets = field(default_factory=dict)


@dataclass(slots=True)
class Ledger:
    """Flushes in the order they were opened. Flushes may finish in any order; commits may not."""

    generation: int = -1
    stored: dict[Partition, int] = field(default_factory=dict)
    """The progress that Postgres is known to hold."""
    _open: deque[Ticket] = field(default_factory=deque)
    _durable: dict[Partition, int] = field(default_factory=dict)
    _floor: dict[Partition, int] = field(default_factory=dict)
    _reached: dict[Partition, datetime] = field(default_factory=dict)

    def assign(self, generation: int, stored: Offsets | None = None) -> None:
        """A new assignment: whatever an earlier one left unfinished or uncommitted is forgotten."""
        self.generation = generation
        self.stored = dict(stored or {})
        self._open.clear()
        self._durable.clear()
        self._floor.clear()
        self._reached.clear()

    def open(
        self, offsets: Offsets, generation: int, reached: Mapping[Partition, datetime] | None = None
    ) -> Ticket:
        """Note a flush; tickets must be opened in the order their records were read."""
        ticket = Ticket(offsets, generation, reached or {})
        if generation == self.generation:
            self._open.append(ticket)
        return ticket

    def note(self, ticket: Ticket) -> tuple[Offsets, Mapping[Partition, datetime]]:
        """The progress that an attempt at this flush may write along with its rows.

        The oldest one's offsets tell the whole truth; any other may tell what is durable already. One
        flush at a time carries progress, so that what is stored is known for certain.
        """
        ticket.note = {}
        if ticket not in self._open or any(other.note for other in self._open):
            return {}, {}
        oldest = self._open[0] is ticket
        offsets, reached = (ticket.offsets, ticket.reached) if oldest else (self._floor, self._reached)
        ticket.note = dict(offsets)
        return ticket.note, dict(reached)

    def finish(self, ticket: Ticket) -> None:
        """The flush is durable; its offsets count once nothing older is unfinished."""
        ticket.finished = True
        if ticket.generation == self.generation:
            self.stored |= ticket.note
        ticket.note = {}
        while self._open and self._open[0].finished:
            done = self._open.popleft()
            self._durable.update(done.offsets)
            self._floor.update(done.offsets)
            self._reached.update(done.reached)

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
