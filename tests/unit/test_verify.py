import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ingest.contract import ClientSeen, LiveEnded, UserActive
from ingest.errors import Misconfigured
from ingest.kafka.deadletters import ORIGIN
from ingest.record import LOG_APPEND_TIME, Partition
from ingest.registry import load
from ingest.verify import Proof, Report, Subject, Terms, verify
from ingest.verify.compare import column_names
from ingest.verify.letters import parsed
from ingest.verify.shares import Share, resident
from tests.strategies import LIMITS, PlainRecord, event
from tests.toldlog import LETTERS, Kafka, letter

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=2)
REGISTRY = load()
ENGINE = {"start_offsets": "progress of a topic", "settings": "settings of a projection"}


def at(hour: int) -> datetime:
    return NOW.replace(hour=hour)


def seen(client: str, time: datetime) -> bytes:
    return event(ClientSeen, time, client_id=client)


@dataclass
class View:
    """A snapshot: rows by the text of the statement that selects them."""

    rows: Mapping[str, Sequence[tuple[Any, ...]]]
    progress: Sequence[Mapping[str, Any]]
    settings: Sequence[Mapping[str, Any]]

    async def fetch(self, text: str, *arguments: Any) -> Sequence[Mapping[str, Any]]:
        return self.progress if text == ENGINE["start_offsets"] else self.settings

    async def stream(self, text: str) -> AsyncIterator[Sequence[tuple[Any, ...]]]:
        rows = self.rows[text]
        for start in range(0, len(rows), 2):
            yield rows[start : start + 2]


@dataclass
class Tables:
    rows: Mapping[str, Sequence[tuple[Any, ...]]]
    progress: int = 1_000
    settings: Sequence[Mapping[str, Any]] = ()
    sql: Mapping[str, str] = field(default_factory=lambda: ENGINE)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[tuple[View, datetime]]:
        yield View(self.rows, [{"partition": 0, "next_offset": self.progress}], self.settings), NOW


def subject(name: str = "client_activity") -> Subject:
    projection, sql = REGISTRY.projections[name], REGISTRY.sql[name]
    return Subject(
        projection=projection,
        options=projection.options(),
        decoder=REGISTRY.decoder(projection, LIMITS),
        verifies={table: table for table in sql.verifies},
        group=f"activity-ingest.{name}",
        topic=projection.topic,
        dead_letter_topic=LETTERS,
        skew=300,
    )


def report(
    kafka: Kafka,
    *rows: tuple[Any, ...],
    progress: int | None = None,
    about: Subject | None = None,
    **terms: Any,
) -> Report:
    about = about or subject()
    (table,) = about.verifies
    reach = kafka.ends.get(Partition(about.topic, 0), 0) if progress is None else progress
    tables = Tables({table: rows}, reach)
    return asyncio.run(verify(about, kafka, kafka.read, tables, Terms(clock=lambda: NOW, **terms)))


def log(
    *values: bytes | PlainRecord, letters: Iterable[PlainRecord] = (), topic: str = "activity.client"
) -> Kafka:
    kafka = Kafka()
    kafka.skip(topic, 0)
    kafka.skip(LETTERS, 0)
    kafka.append(topic, *values)
    kafka.append(LETTERS, *letters)
    return kafka


TWO = (seen("a", at(9)), seen("b", at(8)), seen("a", at(7)))
A, B = ("a", at(9), at(7)), ("b", at(8), at(8))


def test_rows_that_are_the_fold_of_the_log_are_proved_equal() -> None:
    found = report(log(*TWO), B, A)
    assert (found.verdict, found.proof, found.events, found.keys) == (
        "equal",
        Proof.EQUALITY,
        3,
        {"client_activity": 2},
    )
    assert "begins at offset 0" in found.why


def test_an_empty_log_and_empty_tables_are_equal() -> None:
    assert report(log()).verdict == "equal"


def test_a_column_that_differs_is_named_with_both_values() -> None:
    found = report(log(*TWO), ("a", at(9), at(6)), B)
    assert found.verdict == "differs"
    (difference,) = found.differences
    assert (difference.table, difference.key, difference.column) == ("client_activity", ("a",), "column 3")
    assert (difference.stored, difference.expected) == (at(6), at(7))


def test_a_missing_row_is_found() -> None:
    found = report(log(*TWO), A)
    assert [str(d) for d in found.differences] == ["client_activity 'b': the row is missing"]
    assert (found.tables[0].missing, found.different) == (1, 1)


def test_a_row_without_events_is_found_and_may_have_been_there_before() -> None:
    found = report(log(*TWO), A, B, ("c", at(1), at(1)))
    assert [str(d) for d in found.differences] == ["client_activity 'c': the log explains no such row"]
    assert any("--covered" in hint for hint in found.hints)


def test_rows_from_before_the_log_are_accepted_where_only_coverage_is_asked_for() -> None:
    old = ("a", at(9), at(1)), B, ("c", at(1), at(1))
    assert report(log(*TWO), *old).verdict == "differs"
    assert report(log(*TWO), *old, covered=True).verdict == "covered"
    assert report(log(*TWO), *old[1:], covered=True).verdict == "differs"


def test_at_most_twenty_differences_are_shown_and_all_are_counted() -> None:
    found = report(log(*(seen(str(n), NOW) for n in range(30))))
    assert (len(found.differences), found.different) == (20, 30)


def test_a_group_behind_the_end_is_not_waited_for_when_told_so() -> None:
    kafka = log(*TWO)
    kafka.commits = [{Partition("activity.client", 0): 1}]
    found = report(kafka, A, B, wait=False)
    assert (found.verdict, found.behind, found.ok) == ("behind", 2, False)
    assert "activity-ingest run client_activity" in found.hints[0]


def test_a_group_that_never_committed_is_behind_by_the_whole_log() -> None:
    kafka = log(*TWO)
    kafka.commits = [{}]
    assert report(kafka, A, B, wait=False).behind == 3


def test_it_waits_until_the_commits_pass_the_noted_ends() -> None:
    kafka, slept = log(*TWO), list[float]()
    kafka.commits = [{}, {Partition("activity.client", 0): 2}, {Partition("activity.client", 0): 3}]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    found = report(kafka, A, B, sleep=sleep)
    assert (found.verdict, len(slept)) == ("equal", 2)


def test_waiting_ends_at_the_time_limit() -> None:
    kafka, clock = log(*TWO), iter(range(100))
    kafka.commits = [{}]

    async def sleep(seconds: float) -> None:
        return None

    found = report(kafka, A, B, sleep=sleep, timeout=5, monotonic=lambda: float(next(clock)))
    assert found.verdict == "behind"


@pytest.mark.parametrize("row", [("a", at(9), at(7)), ("a", at(9), at(2)), ("a", at(11), at(7))])
def test_of_a_log_whose_start_is_gone_only_coverage_is_proved(row: tuple[Any, ...]) -> None:
    kafka = Kafka(firsts={Partition("activity.client", 0): 5})
    kafka.append("activity.client", *TWO)
    found = report(kafka, row, B, ("gone", at(1), at(1)))
    assert (found.verdict, found.why) == (
        "covered",
        "activity.client:0 begins at offset 5: what came before it is gone",
    )


def test_coverage_is_refuted_by_a_row_that_lacks_something_of_the_log() -> None:
    kafka = Kafka(firsts={Partition("activity.client", 0): 5})
    kafka.append("activity.client", *TWO)
    assert report(kafka, ("a", at(8), at(7)), B).verdict == "differs"
    assert report(kafka, B).verdict == "differs"


@pytest.mark.parametrize(
    ("policy", "proof"),
    [
        ("delete", Proof.EQUALITY),
        ("compact", Proof.COVERAGE),
        ("compact,delete", Proof.COVERAGE),
        (None, Proof.COVERAGE),
    ],
)
def test_offsets_without_a_record_matter_where_compaction_may_have_made_them(
    policy: str | None, proof: Proof
) -> None:
    kafka = log(*TWO)
    kafka.policy = policy
    kafka.skip("activity.client", 1)
    found = report(kafka, A, B)
    assert (found.ok, found.proof) == (True, proof)


def test_a_topic_that_was_made_anew_is_not_the_whole_log() -> None:
    found = report(log(*TWO), A, B, ("old", at(1), at(1)), progress=400)
    assert found.verdict == "covered"
    assert "made anew" in found.why


AHEAD = seen("a", LATER)
WITH_IT, WITHOUT_IT = ("a", LATER, at(7)), A


@pytest.mark.parametrize("reason", ["future", "unstorable", "skipped"])
@pytest.mark.parametrize("row", [WITH_IT, WITHOUT_IT])
def test_a_row_may_hold_what_a_clock_a_server_or_an_operator_rejected(
    reason: str, row: tuple[Any, ...]
) -> None:
    found = report(log(*TWO, AHEAD, letters=[letter(3, reason)]), row, B)
    assert (found.verdict, found.optional, found.dead_letters) == ("equal", 1, {reason: 1})
    assert found.tables[0].bounded == (row is WITH_IT)


@pytest.mark.parametrize(
    "row", [("a", LATER, at(6)), ("a", LATER + timedelta(1), at(7)), ("a", at(10), at(8))]
)
def test_a_row_beyond_what_is_optional_differs(row: tuple[Any, ...]) -> None:
    assert report(log(*TWO, AHEAD, letters=[letter(3, "future")]), row, B).verdict == "differs"


def test_a_stamped_record_from_the_future_may_be_in_the_row_as_well() -> None:
    stamp = int(NOW.timestamp() * 1000)
    ahead = PlainRecord(AHEAD, timestamp=stamp, timestamp_type=LOG_APPEND_TIME)
    for row in (WITH_IT, WITHOUT_IT):
        assert report(log(*TWO, ahead, letters=[letter(3, "future")]), row, B).verdict == "equal"


def test_an_event_ahead_of_the_clock_that_no_letter_tells_of_must_be_in_the_row() -> None:
    assert report(log(*TWO, AHEAD), WITH_IT, B).verdict == "equal"
    assert report(log(*TWO, AHEAD), WITHOUT_IT, B).verdict == "differs"


def test_a_row_of_nothing_but_optional_events_may_be_there_or_not() -> None:
    about = subject("live_activity")
    kafka = log(
        event(LiveEnded, LATER, user_id="u", session_id="s"),
        topic="activity.live",
        letters=[letter(0, "future", "live_activity", "activity.live")],
    )
    ms = int(LATER.timestamp() * 1000)
    row = ("u", "s", "live_u_s", ms, ms, LATER, *[None] * 14, True)
    assert report(kafka, about=about).verdict == "equal"
    found = report(kafka, row, about=about)
    assert (found.verdict, found.tables[0].bounded) == ("equal", 1)
    assert report(kafka, ("u", "x", *row[2:]), about=about).verdict == "differs"


def test_a_reject_that_was_not_dead_lettered_is_lost() -> None:
    found = report(log(*TWO, b"{}", b"nonsense", letters=[letter(4, "malformed")]), A, B)
    assert (found.verdict, found.lost, found.lost_origins) == (
        "differs",
        1,
        ["activity.client:0:3 (invalid)"],
    )


def test_a_letter_of_another_projection_does_not_count() -> None:
    assert report(log(b"{}", letters=[letter(0, "invalid", "user_activity")])).lost == 1
    assert report(log(b"{}", letters=[letter(0, "invalid")])).lost == 0


def test_a_replayed_reject_counts_by_its_first_origin() -> None:
    again = PlainRecord(b"{}", headers=[(ORIGIN, b"activity.client:0:0")])
    found = report(log(b"{}", again, letters=[letter(0, "invalid"), letter(0, "invalid")]))
    assert (found.verdict, found.dead_letters) == ("equal", {"invalid": 1})


def test_letters_that_are_gone_are_not_held_against_anyone() -> None:
    kafka = Kafka(firsts={Partition(LETTERS, 0): 7})
    kafka.skip(LETTERS, 7)
    kafka.append("activity.client", *TWO, b"{}", AHEAD)
    for row in (WITH_IT, WITHOUT_IT):
        found = report(kafka, row, B)
        assert (found.verdict, found.lost) == ("equal", 0)
        assert any("oldest records" in note for note in found.notes)


@pytest.mark.parametrize(
    ("sent", "letters_gone", "verdict"),
    [
        (at(6), True, "equal"),  # an hour ahead of its stamp: whoever read it at once has rejected it
        (at(7), True, "differs"),
        (at(6), False, "differs"),
    ],
)
def test_without_letters_a_producers_stamp_tells_what_may_have_been_rejected(
    sent: datetime, letters_gone: bool, verdict: str
) -> None:
    kafka = Kafka(firsts={Partition(LETTERS, 0): 7 if letters_gone else 0})
    kafka.skip(LETTERS, 7)
    early = PlainRecord(seen("a", at(7)), timestamp=int(sent.timestamp() * 1000))
    kafka.append(
        "activity.client", PlainRecord(seen("a", at(9)), timestamp=int(at(9).timestamp() * 1000)), early
    )
    assert report(kafka, ("a", at(9), at(9))).verdict == verdict
    assert report(kafka, ("a", at(9), at(7))).verdict == "equal"


def test_a_record_that_was_rejected_but_is_valid_now_must_be_in_the_row() -> None:
    found = report(log(*TWO, letters=[letter(2, "invalid")]), ("a", at(9), at(9)), B)
    assert found.verdict == "differs"
    assert any("valid now" in note for note in found.notes)


def test_without_a_dead_letter_topic_every_reject_is_lost() -> None:
    kafka = Kafka()
    kafka.append("activity.client", b"{}")
    assert report(kafka).lost == 1


@pytest.mark.parametrize("row", [A, ("a", at(10), at(7)), ("a", at(11), at(7))])
def test_what_came_meanwhile_may_be_in_the_row_or_not(row: tuple[Any, ...]) -> None:
    kafka = log(*TWO)
    kafka.arriving = [PlainRecord(seen("a", at(h)), "activity.client") for h in (10, 11)]
    found = report(kafka, row, B, progress=3)
    assert (found.verdict, found.proof, found.optional) == ("equal", Proof.EQUALITY, 2)
    assert "2 records came meanwhile" in found.why


def test_what_came_meanwhile_may_have_been_judged_by_another_clock() -> None:
    for stamped in (0, LOG_APPEND_TIME):
        kafka, stamp = log(*TWO), int(NOW.timestamp() * 1000)
        kafka.arriving = [PlainRecord(AHEAD, "activity.client", timestamp=stamp, timestamp_type=stamped)]
        assert report(kafka, WITH_IT, B, progress=3).verdict == "equal"


def test_what_came_meanwhile_must_be_in_the_row_where_it_is_known_to_be_durable() -> None:
    def verdict(*row: Any) -> str:
        kafka = log(*TWO)
        kafka.arriving = [PlainRecord(seen("a", at(h)), "activity.client") for h in (10, 11)]
        return report(kafka, row, B, progress=4).verdict

    assert verdict("a", at(10), at(7)) == verdict("a", at(11), at(7)) == "equal"
    assert verdict("a", at(9), at(7)) == "differs"


def test_rows_behind_the_commits_hint_at_a_restored_database() -> None:
    found = report(log(*TWO), A, progress=1)
    assert any("restored" in hint for hint in found.hints)


def test_a_missing_topic_is_said_with_its_mend() -> None:
    with pytest.raises(Misconfigured, match=r"activity\.client does not exist"):
        report(Kafka())


def test_a_table_that_only_the_reference_knows_is_refused() -> None:
    about = replace(subject(), verifies={"other": "other"})
    with pytest.raises(Misconfigured, match="client_activity, which nothing selects"):
        report(log(*TWO), about=about)


def test_a_column_of_a_strange_type_is_a_difference_and_no_crash() -> None:
    kafka = Kafka(firsts={Partition("activity.client", 0): 5})
    kafka.append("activity.client", *TWO)
    assert report(kafka, ("a", None, at(7)), B).verdict == "differs"


def test_the_report_is_plain_enough_for_json() -> None:
    found = report(log(*TWO, b"{}", letters=[letter(9, "invalid")]), ("a", at(9), at(6)), ("c", at(1), at(1)))
    plain = msgspec.json.decode(msgspec.json.encode(found.plain()))
    assert (plain["verdict"], plain["proved"], plain["different_rows"]) == ("differs", None, 3)
    assert [("stored" in d, "expected" in d) for d in plain["differences"]] == [
        (True, True),
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("text", [None, b"", b"activity.client", b"t:x:1", b"t:1:", b"\xff:1:1"])
def test_an_origin_that_is_none_is_ignored(text: bytes | None) -> None:
    assert parsed(text) is None


def test_column_names_are_read_from_the_statement() -> None:
    text = """select a, t.b, -- c, not this
        array(select x from y) as d, case when a, b then 'from' end as e, f('x, y')::text as g from t"""
    assert column_names(text) == ["a", "b", "d", "e", "g"]


class Filling:
    """Memory that grows with each look, until it was too much for the first time."""

    def __init__(self, looks: int) -> None:
        self.looks, self.peaks = looks, 0

    def __call__(self) -> int:
        self.looks -= 1
        if self.looks == 0:
            self.peaks += 1
            return 1_000
        return 0


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        ((A, B), (0, 0, 0)),
        ((A, ("b", at(8), at(7))), (0, 0, 1)),
        ((A,), (1, 0, 0)),
        ((A, B, ("c", at(1), at(1))), (0, 1, 0)),
    ],
)
def test_a_log_too_large_for_memory_is_proved_in_several_passes(
    rows: Sequence[tuple[Any, ...]], counts: tuple[int, int, int]
) -> None:
    memory, many = Filling(2), [f"k{n}" for n in range(20)]
    kafka = log(*TWO, *(seen(key, at(3)) for key in many), b"{}", letters=[letter(23, "invalid")])
    kafka.arriving = [PlainRecord(seen(key, at(4)), "activity.client") for key in many]
    found = report(
        kafka, *rows, *((key, at(4), at(3)) for key in many), progress=24, memory=memory, memory_limit=999
    )
    assert memory.peaks == 1
    assert (found.events, found.optional, found.keys, found.lost) == (23, 20, {"client_activity": 22}, 0)
    (table,) = found.tables
    assert (table.missing, table.extra, table.unequal, table.bounded) == (*counts, 20)


def test_each_event_goes_to_every_share_that_has_a_row_of_it() -> None:
    about = subject("streaks")
    decoder, options = about.decoder, about.options
    values = [event(UserActive, at(9), user_id=f"u{n}") for n in range(50)]
    events = decoder.decode_all([PlainRecord(value) for value in values], NOW).events
    shares = [Share(lambda: about.projection.reference(options), n, 3) for n in range(3)]
    parts = [share.events(events) for share in shares]
    assert sorted(e.data.user_id for part in parts for e in part) == sorted(e.data.user_id for e in events)
    assert all(parts)
    rows: dict[Any, tuple[Any, ...]] = {(e.data.user_id, n): () for n, e in enumerate(events)}
    for share, part in zip(shares, parts, strict=True):
        users = [e.data.user_id for e in part]
        expected: list[Any] = list(share.expected(rows))
        assert [user for user, _ in expected] == users
        assert share.rows(list(rows)) == expected


def test_rows_made_under_other_pinned_settings_are_not_judged() -> None:
    about, kafka = subject("user_activity"), log(topic="activity.user")

    def verdict(throttle: str) -> str:
        tables = Tables({"user_activity": []}, 0, [{"name": "activity_throttle", "value": throttle}])
        return asyncio.run(verify(about, kafka, kafka.read, tables)).verdict

    assert verdict("300") == "equal"
    with pytest.raises(
        Misconfigured, match="activity_throttle is 300 here, the rows were made with 60"
    ) as error:
        verdict("60")
    assert error.value.mend == "set ACTIVITY_USER_ACTIVITY__ACTIVITY_THROTTLE=60"


def test_the_memory_of_this_process_is_known() -> None:
    assert resident() > 10_000_000
