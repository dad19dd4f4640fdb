"""SQLSTATE -> reaction, how long to wait, which half to try."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.retry import CAUSES, DEFAULT, RULES, Attempts, Backoff, Bisection, Reaction, classify, rule

TRANSIENT = """
    08000 08001 08003 08004 08006 08007 08P01 25P02 25P03 25P04 25006 26000 40000 40001 40002 40003 40P01
    42P05 53000 53100 53200 53300 53400 55P03 57000 57014 57P01 57P02 57P03 57P04 57P05 58000 58030
    58P01 58P02
"""
DATA = """
    22000 22001 22003 22007 22008 22011 22012 22021 22023 22P02 22P03 22P05 23000 23001 23502 23503 23505
    23514 23P01 44000 54000 54001 54011 54023 P0001
"""
FATAL = """
    01000 02000 03000 09000 0A000 0B000 0F000 0L000 0P000 0Z000 20000 21000 24000 25000 25001 25005 25P01
    27000 28000 28P01 2B000 2D000 2F000 34000 38000 39000 3B000 3D000 3F000 42000 42501 42601 42703 42804
    42883 42P01 42P10 55000 55006 55P02 55P04 72000 F0000 HV000 P0000 P0002 P0004 XX000 XX001 XX002 99999 ''
"""


@pytest.mark.parametrize(
    ("codes", "reaction"), [(TRANSIENT, Reaction.TRANSIENT), (DATA, Reaction.DATA), (FATAL, Reaction.FATAL)]
)
def test_every_code_of_postgres_has_its_reaction(codes: str, reaction: Reaction) -> None:
    assert {code: classify(code) for code in codes.split()} == dict.fromkeys(codes.split(), reaction)


def test_a_code_of_its_own_goes_before_its_class() -> None:
    assert (rule("42P05").cause, rule("42P01").code, rule("40P01").cause) == ("statement", "42", "deadlock")
    assert rule("99999") is DEFAULT


def test_every_rule_that_stops_a_worker_says_what_mends_it() -> None:
    assert all(bool(r.mend) == (r.reaction is Reaction.FATAL) for r in (*RULES, DEFAULT))
    assert all(r.meaning for r in RULES)
    assert len({r.code for r in RULES}) == len(RULES)


def test_causes_are_few_enough_for_a_label() -> None:
    assert {r.cause for r in RULES if r.reaction is Reaction.TRANSIENT} <= CAUSES
    assert len(CAUSES) < 20


def always(fraction: float) -> Callable[[], float]:
    return lambda: fraction


def test_waits_double_up_to_the_cap() -> None:
    backoff = Backoff(first=0.5, cap=3.0)
    assert [backoff.delay(n, always(1.0)) for n in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_waits_are_spread_over_the_whole_range() -> None:
    source = random.Random(1)
    waits = [Backoff(first=1.0).delay(1, source.random) for _ in range(1000)]
    assert min(waits) < 0.05
    assert max(waits) > 0.95


def test_an_outage_of_weeks_does_not_overflow() -> None:
    assert Backoff(first=0.1, cap=30.0).delay(10_000_000, always(1.0)) == 30.0


def test_each_failure_puts_the_next_attempt_off() -> None:
    attempts = Attempts(Backoff(first=1.0, cap=30.0))
    assert [attempts.failed(now, always(0.5)) for now in (100.0, 200.0, 300.0)] == [100.5, 201.0, 302.0]
    assert attempts.failures == 3


def test_only_three_time_outs_in_a_row_ask_for_a_half() -> None:
    attempts = Attempts()
    asked = []
    for timed_out in (True, True, False, True, True, True, False):
        attempts.failed(0.0, always(0.0), timed_out=timed_out)
        asked.append(attempts.must_halve)
    assert asked == [False, False, False, False, False, True, False]


@given(st.integers(0, 60), st.sets(st.integers(0, 59)))
def test_a_bisection_finds_exactly_the_bad_and_keeps_the_order(count: int, bad: set[int]) -> None:
    bisection = Bisection(range(count))
    stored: list[int] = []
    refused: list[int] = []
    tries = 0
    while part := bisection.part:
        tries += 1
        if bad.isdisjoint(part):
            stored += part
            bisection.stored()
        elif (alone := bisection.refused()) is not None:
            refused.append(alone)
    assert refused == sorted(b for b in bad if b < count)
    assert stored == [n for n in range(count) if n not in bad]
    assert tries <= 1 + 2 * len(refused) * max(1, count.bit_length())
