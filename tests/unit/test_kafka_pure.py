"""What the Kafka room decides without a socket."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import aiokafka.errors as kafka
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import IngestError, LostOffsets, Misconfigured, Unavailable
from ingest.kafka.answers import by_topic, commits_in, ends_in, offsets_in
from ingest.kafka.assignment import Assignment, Watch
from ingest.kafka.faults import FENCED, bounded, code, fault
from ingest.kafka.placing import Log, Place, place
from ingest.kafka.quiet import CLIENT, Gate, kind_of, thin_out
from ingest.record import Partition

HERE, THERE = Partition("activity.user", 0), Partition("activity.user", 1)
LOG = Log(10, 100)


@pytest.mark.parametrize(
    ("committed", "stored", "start"),
    [
        (50, 60, 50),
        (60, 50, 50),
        (50, 50, 50),
        (None, None, 10),
        (50, None, 10),
        (None, 50, 10),
        (10, 100, 10),
    ],
)
def test_reading_starts_at_the_lower_of_both_or_at_the_beginning(
    committed: int | None, stored: int | None, start: int
) -> None:
    assert place(HERE, committed, stored, LOG) == Place(start)


@pytest.mark.parametrize(
    ("committed", "stored", "told"),
    [
        (9, 50, "begins at 10: 1 records are gone"),
        (50, 9, "begins at 10"),
        (None, 9, "begins at 10"),
        (9, None, "begins at 10"),
        (101, 50, "comes after the end of the log, 100"),
        (None, 101, "comes after the end"),
    ],
)
def test_an_offset_that_the_log_does_not_have_stops_unless_a_policy_says_where_to_go_on(
    committed: int | None, stored: int | None, told: str
) -> None:
    with pytest.raises(LostOffsets, match=told) as refused:
        place(HERE, committed, stored, LOG)
    assert refused.value.message.startswith("activity.user:0: ")
    lost = next(o for o in (committed, stored) if o not in (None, 50))
    assert place(HERE, committed, stored, LOG, "earliest") == Place(10, lost)
    assert place(HERE, committed, stored, LOG, "latest") == Place(100, lost)


offsets = st.one_of(st.none(), st.integers(0, 120))


@given(offsets, offsets, st.integers(0, 60), st.integers(0, 60))
def test_a_place_is_inside_the_log_and_skips_nothing_that_is_not_durable(
    committed: int | None, stored: int | None, begin: int, length: int
) -> None:
    log = Log(begin, begin + length)
    try:
        start, lost = place(HERE, committed, stored, log)
    except LostOffsets:
        assert any(o is not None and not log.begin <= o <= log.end for o in (committed, stored))
        return
    assert lost is None
    assert log.begin <= start <= log.end
    assert all(o is None or start <= o for o in (committed, stored))


def placed(generation: int = 3, **committed: int) -> Assignment:
    known = {Partition("activity.user", int(name[1:])): offset for name, offset in committed.items()}
    return Assignment(generation, (HERE, THERE), {HERE: 0, THERE: 0}, known, placed=True)


def test_only_what_is_ours_of_this_generation_and_goes_forward_is_due() -> None:
    assignment = placed(p0=5)
    offered = {HERE: 6, THERE: 0, Partition("activity.user", 9): 4}
    assert assignment.due(offered, 3) == {HERE: 6, THERE: 0}
    assert assignment.due({HERE: 5}, 3) == {}
    assert assignment.due({HERE: 4}, 3) == {}
    assert assignment.due(offered, 2) == {}
    assignment.ended = True
    assert assignment.due(offered, 3) == {}


def test_nothing_is_due_before_it_is_known_where_reading_starts() -> None:
    assert Assignment(1, (HERE,)).due({HERE: 5}, 1) == {}


def test_being_read_to_the_end_is_as_old_as_the_answer_before_the_one_that_said_so() -> None:
    assignment = placed()
    assignment.next[HERE] = 7
    assert assignment.read_to_end(HERE, 7) is None
    assert assignment.note_fetch(HERE, 1000)
    assert assignment.read_to_end(HERE, 7) is None
    assert not assignment.note_fetch(HERE, 1000)
    # The process stood still for a minute: the answer lay in the socket all the while.
    assert assignment.note_fetch(HERE, 61_000)
    assert assignment.read_to_end(HERE, 7) == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert assignment.read_to_end(HERE, 8) is None
    assert assignment.read_to_end(HERE, None) is None
    assert assignment.read_to_end(HERE, -1) is None
    assert not assignment.note_fetch(HERE, None)


def test_a_watch_tells_silence_from_a_stall() -> None:
    watch = Watch(silence=10, stall=100)
    watch.heard(50)
    watch.fetched(50)
    assert not watch.silent(60)
    assert watch.silent(60.1)
    watch.heard(149)
    assert not watch.silent(150.1)
    assert watch.stalled(150.1)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (kafka.SaslAuthenticationFailed("bad password"), Misconfigured),
        (kafka.AuthenticationFailedError("401"), Misconfigured),
        (kafka.UnsupportedSaslMechanismError("SCRAM"), Misconfigured),
        (kafka.TopicAuthorizationFailedError("activity.user"), Misconfigured),
        (kafka.GroupAuthorizationFailedError("g"), Misconfigured),
        (kafka.ClusterAuthorizationFailedError(), Misconfigured),
        (kafka.UnsupportedCodecError("zstd"), Misconfigured),
        (kafka.RecordTooLargeError("3 MB"), Misconfigured),
        (kafka.InvalidSessionTimeoutError(), Misconfigured),
        (kafka.InconsistentGroupProtocolError(), Misconfigured),
        (kafka.UnsupportedVersionError(), Misconfigured),
        (kafka.OffsetOutOfRangeError({HERE: 3}), LostOffsets),
        (kafka.CorruptRecordException("crc"), Unavailable),
        (kafka.NotLeaderForPartitionError(), Unavailable),
        (kafka.KafkaConnectionError("refused"), Unavailable),
        (kafka.RequestTimedOutError(), Unavailable),
        (kafka.NotEnoughReplicasError(), Unavailable),
        (kafka.UnknownError(), Unavailable),
        (ConnectionRefusedError("refused"), Unavailable),
        (TimeoutError(), Unavailable),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_error_of_the_client_has_one_reaction(error: Exception, kind: type[IngestError]) -> None:
    found = fault(error, "reading activity.user")
    assert type(found) is kind
    assert found.message.startswith("reading activity.user: ")
    assert len(found.message) > len("reading activity.user: ")
    if isinstance(found, Misconfigured):
        assert found.mend
    if isinstance(found, Unavailable):
        assert found.cause in {"kafka", "kafka_timeout", "kafka_corrupt_record", "kafka_replicas"}


def test_every_error_that_the_client_knows_is_either_waited_out_or_explained() -> None:
    for error in (kind() for kind in kafka.kafka_errors.values()):
        found = fault(error, "doing")
        assert isinstance(found, Misconfigured | Unavailable)
        if error.retriable:
            assert isinstance(found, Unavailable)


def test_our_own_errors_pass_unchanged() -> None:
    ours = Misconfigured("what", "mend")
    assert fault(ours, "reading") is ours


async def test_a_wait_that_takes_too_long_is_unavailable() -> None:
    import asyncio

    with pytest.raises(Unavailable, match="asking: ") as late:
        await bounded(asyncio.Event().wait(), 0.01, "asking")
    assert late.value.cause == "kafka_timeout"


def test_fenced_commits_are_those_of_a_group_that_went_on_without_us() -> None:
    assert isinstance(code(22), FENCED)
    assert isinstance(code(25), FENCED)
    assert isinstance(code(27), FENCED)
    assert not isinstance(code(30), FENCED)


def answer(error: int, *partitions: tuple[int, int, int], version: int = 3) -> Any:
    parts = [(number, offset, "", failed) for number, offset, failed in partitions]
    return SimpleNamespace(
        API_VERSION=version, error_code=error, topics=[("activity.user", parts)] if parts else []
    )


def test_commits_are_told_apart_from_none() -> None:
    assert commits_in(answer(0, (0, 17, 0), (1, -1, 0))) == {HERE: 17}


@pytest.mark.parametrize("number", [14, 15, 16, 30])
def test_an_error_of_the_whole_group_never_looks_like_no_commit(number: int) -> None:
    with pytest.raises(kafka.BrokerResponseError) as raised:
        commits_in(answer(number))
    assert raised.value.errno == number


def test_an_error_of_one_partition_never_looks_like_no_commit() -> None:
    with pytest.raises(kafka.BrokerResponseError):
        commits_in(answer(0, (0, 17, 0), (1, -1, 3)))


def test_ends_are_high_watermarks_or_last_stable_offsets() -> None:
    parts: list[tuple[Any, ...]] = [(0, 0, 9, 7, 0, [], b""), (1, 1, -1, -1, 0, None, b"")]
    fetched = SimpleNamespace(API_VERSION=11, topics=[("activity.user", parts)])
    assert ends_in(0, fetched) == {HERE: 9}
    assert ends_in(1, fetched) == {HERE: 7}
    assert ends_in(1, SimpleNamespace(API_VERSION=3, topics=[("activity.user", [(0, 0, 9, b"")])])) == {
        HERE: 9
    }


def test_an_error_among_offsets_is_raised() -> None:
    listed = SimpleNamespace(topics=[("activity.user", [(0, 0, -1, 12), (1, 0, -1, 0)])])
    assert offsets_in(listed) == {HERE: 12, THERE: 0}
    listed.topics[0][1][1] = (1, 6, -1, -1)
    with pytest.raises(kafka.NotLeaderForPartitionError):
        offsets_in(listed)


def test_the_protocol_gets_each_topic_once() -> None:
    mixed = [Partition("b", 1), Partition("a", 0), Partition("b", 0)]
    assert by_topic(mixed) == [("a", [0]), ("b", [0, 1])]


def test_a_gate_lets_one_line_of_a_kind_through_a_minute_and_counts_the_rest() -> None:
    gate = Gate(60)
    assert gate.admit("a", 100.0) == 0
    assert [gate.admit("a", 100.0 + second) for second in range(1, 60)] == [None] * 59
    assert gate.admit("b", 130.0) == 0
    assert gate.admit("a", 160.0) == 59
    assert gate.admit("a", 161.0) is None
    assert gate.admit("a", 220.0) == 1


def test_a_gate_remembers_a_bounded_number_of_kinds() -> None:
    gate = Gate(60)
    for number in range(5000):
        assert gate.admit(number, 0.0) == 0
    assert len(gate._seen) <= 1000


@pytest.fixture
def client_logger() -> Any:
    logger = logging.getLogger(CLIENT)
    before = (logger.handlers[:], logger.propagate, logger.level)
    yield logging.getLogger(f"{CLIENT}.conn")
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


def test_a_flood_of_the_client_becomes_one_line_and_a_count(
    client_logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[str, bool]] = []
    thin_out(on_line=lambda logger, passed: heard.append((logger, passed)))
    thin_out(on_line=lambda logger, passed: heard.append((logger, passed)))
    for number in range(300):
        client_logger.error("Unable connect to node with id %s: %s", number % 3, OSError("refused"))
    client_logger.error("Unable connect to node with id %s: %s", 1, kafka.AuthenticationFailedError("bad"))
    client_logger.info("all is well")
    assert [record.getMessage() for record in caplog.records] == [
        "Unable connect to node with id 0: refused",
        "Unable connect to node with id 1: AuthenticationFailedError: bad",
    ]
    assert len(heard) == 301
    assert heard.count(("aiokafka.conn", True)) == 2


def test_kinds_of_lines_are_told_apart_by_logger_text_and_error() -> None:
    @dataclass
    class Line:
        name: str
        msg: str
        args: tuple[object, ...]

    def kind(name: str, msg: str, *args: object) -> object:
        return kind_of(Line(name, msg, args))  # type: ignore[arg-type]

    first = kind("a", "%s failed: %s", 1, OSError())
    assert kind("a", "%s failed: %s", 2, OSError()) == first
    others: list[Callable[[], object]] = [
        lambda: kind("b", "%s failed: %s", 1, OSError()),
        lambda: kind("a", "%s broke: %s", 1, OSError()),
        lambda: kind("a", "%s failed: %s", 1, ValueError()),
    ]
    assert all(other() != first for other in others)
