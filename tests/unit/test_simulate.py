from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from random import Random
from typing import Any

import msgspec
import pytest

from ingest.contract import KNOWN_EVENTS, Decoder, Event, Limits
from ingest.record import Reason, Reject
from ingest.simulate import Message, Simulation, simulate
from ingest.simulate.broken import WRONGS, Wrong
from ingest.simulate.network import TOPICS, USER_TOPIC

END = datetime(2026, 3, 10, 15, 30, tzinfo=UTC)
CATALOGUE = {event.type_name(): event.topic for event in KNOWN_EVENTS}


@dataclass(frozen=True)
class Arrived:
    """A message as a record of an unstamped topic."""

    topic: str
    key: bytes
    value: bytes
    partition: int = 0
    offset: int = 0
    timestamp: int = -1
    timestamp_type: int = 0
    headers: Sequence[tuple[str, bytes | None]] = ()


def decoder(topic: str) -> Decoder:
    return Decoder([e for e in KNOWN_EVENTS if e.topic == topic], topic, CATALOGUE, Limits())


DECODERS = {topic: decoder(topic) for topic in {*TOPICS.values(), USER_TOPIC}}


def decoded(messages: Sequence[Message]) -> list[Any]:
    return [DECODERS[m.topic].decode(Arrived(*m), END + timedelta(minutes=1)) for m in messages]


def run(**wanted: Any) -> list[Message]:
    return list(simulate(Simulation(end=END, **wanted)))


@pytest.fixture(scope="module")
def usual() -> list[Message]:
    return run(events=20_000, users=800, clients=160)


@pytest.fixture(scope="module")
def clean() -> list[Event]:
    return decoded(run(events=20_000, users=800, clients=160, duplicates=0.0, disorder=0.0, invalid=0.0))


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others(usual: list[Message]) -> None:
    again = islice(simulate(Simulation(end=END, events=20_000, users=800, clients=160)), 3_000)
    assert list(again) == usual[:3_000]
    assert run(events=1_000, seed=1) != run(events=1_000, seed=2)


def test_about_as_many_messages_are_made_as_asked(usual: list[Message]) -> None:
    assert len(usual) == pytest.approx(20_000, rel=0.02)
    assert len(run(events=2_000)) == pytest.approx(2_000, rel=0.1)


def test_every_event_type_occurs_and_goes_to_its_topic(clean: list[Event]) -> None:
    assert Counter(e.type_name() for e in clean).keys() == CATALOGUE.keys()


def test_events_are_valid_unless_invalid_ones_are_asked_for(clean: list[Event]) -> None:
    assert not [event for event in clean if isinstance(event, Reject)]


def test_about_the_share_asked_for_is_invalid_for_every_reason_a_producer_can_cause() -> None:
    found = decoded(run(events=20_000, invalid=0.1))
    reasons = Counter(event.reason for event in found if isinstance(event, Reject))
    assert reasons.total() == pytest.approx(2_000, rel=0.15)
    assert reasons.keys() == {*Reason} - {Reason.UNSTORABLE, Reason.SKIPPED}


def test_about_the_share_asked_for_arrives_twice_byte_for_byte() -> None:
    messages = run(events=20_000, duplicates=0.1)
    repeats = len(messages) - len(set(messages))
    assert repeats == pytest.approx(20_000 * 0.1 / 1.1, rel=0.15)


def test_without_disorder_events_arrive_in_the_order_of_their_times(clean: list[Event]) -> None:
    milliseconds = [event.time.timestamp() * 1000 // 1 for event in clean]
    assert milliseconds == sorted(milliseconds)


def test_with_disorder_some_are_seconds_late_and_some_are_days_late() -> None:
    events = decoded(run(events=20_000, disorder=0.1, duplicates=0.0, invalid=0.0))
    lateness: list[timedelta] = []
    newest = datetime.min.replace(tzinfo=UTC)
    for event in events:
        lateness.append(max(newest - event.time, timedelta()))
        newest = max(newest, event.time)
    seconds = [late for late in lateness if timedelta() < late <= timedelta(seconds=10)]
    assert 0.02 < len(seconds) / len(events) < 0.15
    assert 0.005 < sum(late > timedelta(hours=1) for late in lateness) / len(events) < 0.05
    assert max(lateness) > timedelta(days=1)


def test_nothing_happens_after_the_end_or_before_the_first_day(clean: list[Event]) -> None:
    assert min(event.time for event in clean) >= END - timedelta(days=14)
    assert max(event.time for event in clean) <= END


def test_most_events_are_of_the_last_day_and_the_last_hour_is_busy(clean: list[Event]) -> None:
    ages = [END - event.time for event in clean]
    assert sum(age < timedelta(days=1) for age in ages) > len(clean) / 2
    assert sum(age < timedelta(hours=1) for age in ages) > len(clean) / 50


def people(events: Sequence[Event]) -> Iterator[tuple[str, Event]]:
    return ((event.data.user_id, event) for event in events if hasattr(event.data, "user_id"))


def test_some_users_come_every_day_and_some_have_stopped_coming(clean: list[Event]) -> None:
    days: dict[str, set[date]] = defaultdict(set)
    for user, event in people(clean):
        days[user].add(event.time.date())
    assert sum(len(seen) >= 12 for seen in days.values()) > 50
    assert sum(max(seen) < END.date() - timedelta(days=3) for seen in days.values()) > 50


def test_people_are_about_by_day_in_their_own_time_zone(clean: list[Event]) -> None:
    japanese = [e for _, e in people(clean) if getattr(e.data, "timezone", None) == "Asia/Tokyo"]
    hours = Counter((event.time + timedelta(hours=9)).hour for event in japanese)
    assert sum(hours[hour] for hour in (1, 2, 3, 4)) < sum(hours[hour] for hour in (18, 19, 20, 21)) / 4


def test_zones_have_summer_time_or_fixed_offsets_and_some_events_name_none(clean: list[Event]) -> None:
    named = Counter(getattr(e.data, "timezone", "") for e in clean if e.topic == "activity.user")
    assert {"America/New_York", "Europe/Berlin", "+05:30", "Asia/Kathmandu"} <= named.keys()
    assert 0.05 < named[None] / named.total() < 0.4


def test_activity_is_uneven_a_few_clients_make_much_of_the_traffic(clean: list[Event]) -> None:
    counts = Counter(event.data.client_id for event in clean if event.topic == "activity.client")
    top = sum(count for _, count in counts.most_common(len(counts) // 10))
    assert top > counts.total() / 3


def test_sessions_run_on_several_devices_show_contents_and_mostly_end(clean: list[Event]) -> None:
    beats = [event.data for event in clean if event.type_name() == "live.heartbeat"]
    assert len({data.device_type for data in beats}) >= 3
    assert any(not (data.content_title or "").isascii() for data in beats)
    assert any(data.episode_number for data in beats)
    per_session = Counter(data.session_id for data in beats)
    ended = {event.data.session_id for event in clean if event.type_name() == "live.ended"}
    assert 0.4 < len(ended) / len(per_session) < 0.95
    assert max(per_session.values()) > 20


def test_one_user_can_be_simulated_alone_and_comes_nearly_every_day() -> None:
    messages = run(user_id="ana@example.org", users=1, clients=0, events=800, invalid=0.0)
    assert {message.key for message in messages} == {b"ana@example.org"}
    events = decoded(messages)
    assert {event.data.user_id for event in events} == {"ana@example.org"}
    assert len({event.time.date() for event in events}) >= 12


@pytest.mark.parametrize("wanted", [{"users": 0}, {"clients": 0}, {"users": 0, "clients": 0}, {"days": 1}])
def test_a_simulation_without_users_or_clients_ends_as_well(wanted: dict[str, int]) -> None:
    messages = run(events=500, **wanted)
    assert len(messages) == (0 if wanted.keys() == {"users", "clients"} else pytest.approx(500, rel=0.3))


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: wrong.spoil.__name__)
def test_each_way_of_going_wrong_is_refused_for_the_reason_it_stands_for(
    wrong: Wrong, clean: list[Event]
) -> None:
    rng = Random(7)
    for message in run(events=300, invalid=0.0)[:100]:
        topic, value = wrong.spoil(rng, message.topic, msgspec.json.decode(message.value))
        reject = DECODERS[topic].decode(Arrived(topic, message.key, value), END)
        assert isinstance(reject, Reject)
        assert reject.reason is wrong.reason, reject.detail
