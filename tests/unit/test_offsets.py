"""Which offsets become committable, and when."""

from ingest.offsets import Ledger
from ingest.record import Partition

P, Q = Partition("t", 0), Partition("t", 1)


def ledger(generation: int = 1) -> Ledger:
    made = Ledger()
    made.assign(generation)
    return made


def test_only_offsets_below_the_oldest_unfinished_flush_count() -> None:
    book = ledger()
    first, second, third = (book.open({P: n}, 1) for n in (10, 20, 30))
    book.finish(second)
    book.finish(third)
    assert book.take() == {}
    book.finish(first)
    assert book.take() == {P: 30}


def test_each_offset_is_handed_out_once() -> None:
    book = ledger()
    book.finish(book.open({P: 10}, 1))
    assert book.take() == {P: 10}
    assert book.take() == {}


def test_partitions_of_finished_flushes_come_together() -> None:
    book = ledger()
    book.finish(book.open({P: 10}, 1))
    book.finish(book.open({P: 12, Q: 5}, 1))
    assert book.take() == {P: 12, Q: 5}


def test_the_oldest_flush_notes_its_offsets_and_one_flush_at_a_time_notes_any() -> None:
    book = ledger()
    first, second = book.open({P: 10}, 1), book.open({P: 20}, 1)
    assert book.note(first)[0] == {P: 10}
    assert book.note(second)[0] == {}
    book.finish(first)
    assert book.stored == {P: 10}
    assert book.note(second)[0] == {P: 20}


def test_a_flush_that_is_never_the_oldest_notes_what_is_durable_all_the_same() -> None:
    book = ledger()
    flushes = [book.open({P: 10}, 1)]
    for end in range(20, 100, 10):  # each begins while the one before it is still being written
        flushes.append(book.open({P: end}, 1))
        book.note(flushes[-1])
        book.finish(flushes[-2])
    assert 50 <= book.stored[P] < 90


def test_a_flush_that_is_not_the_oldest_notes_no_more_than_what_is_durable() -> None:
    book = ledger()
    first, second, third = (book.open({P: n}, 1) for n in (10, 20, 30))
    book.finish(first)
    assert book.note(third)[0] == {P: 10}
    assert book.note(second)[0] == {}, "another flush carries progress already"
    book.finish(third)
    assert book.note(second)[0] == {P: 20}


def test_what_an_earlier_assignment_made_durable_is_not_noted_under_the_next() -> None:
    book = ledger(1)
    book.finish(book.open({P: 10}, 1))
    book.assign(2)
    book.open({P: 4}, 2)
    assert book.note(book.open({P: 6}, 2))[0] == {}


def test_a_flush_that_failed_notes_anew() -> None:
    book = ledger()
    only = book.open({P: 10}, 1)
    assert book.note(only)[0] == book.note(only)[0] == {P: 10}
    assert book.stored == {}


def test_a_flush_of_an_earlier_assignment_says_nothing() -> None:
    book = ledger(1)
    old = book.open({P: 10}, 1)
    book.note(old)
    book.assign(2, {P: 3})
    late = book.open({P: 11}, 1)
    assert book.note(late)[0] == {}
    for ticket in (old, late):
        book.finish(ticket)
    assert book.take() == {}
    assert book.unfinished == 0
    assert book.stored == {P: 3}


def test_a_flush_of_an_earlier_assignment_does_not_hold_up_the_present_one() -> None:
    book = ledger(1)
    book.open({P: 10}, 1)
    book.assign(2)
    book.finish(book.open({P: 4}, 2))
    assert book.take() == {P: 4}


def test_what_was_durable_but_not_committed_is_forgotten_with_its_assignment() -> None:
    book = ledger(1)
    book.finish(book.open({P: 10}, 1))
    book.assign(2)
    assert book.take() == {}


def test_offsets_put_back_are_offered_again() -> None:
    book = ledger()
    book.finish(book.open({P: 10, Q: 3}, 1))
    book.put_back(book.take(), 1)
    assert book.take() == {P: 10, Q: 3}


def test_offsets_put_back_never_replace_newer_ones() -> None:
    book = ledger()
    book.finish(book.open({P: 10, Q: 3}, 1))
    taken = book.take()
    book.finish(book.open({P: 20}, 1))
    book.put_back(taken, 1)
    assert book.take() == {P: 20, Q: 3}


def test_offsets_of_an_earlier_assignment_are_not_put_back() -> None:
    book = ledger(1)
    book.finish(book.open({P: 10}, 1))
    taken = book.take()
    book.assign(2)
    book.put_back(taken, 1)
    assert book.take() == {}


def test_unfinished_flushes_are_counted() -> None:
    book = ledger()
    first, second = book.open({P: 10}, 1), book.open({P: 20}, 1)
    book.finish(second)
    assert book.unfinished == 2
    book.finish(first)
    assert book.unfinished == 0
