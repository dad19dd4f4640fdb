"""Kafka: from the name of a broker to the last record's time stamp."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta

from ingest.doctor.finding import FOUND, UNREACHABLE, Finding, Findings, ok, skipped, warning, wrong
from ingest.doctor.patient import Patient
from ingest.errors import IngestError, Unavailable
from ingest.kafka import LogReader, Lookup
from ingest.kafka.admin import LARGEST
from ingest.record import LOG_APPEND_TIME
from ingest.status import group_of

CREATE = "activity-ingest topics --create"
SERVERS = "ACTIVITY_KAFKA__BOOTSTRAP_SERVERS"
ADVERTISED = "brokers must advertise addresses that are reachable from here: see their advertised.listeners"
HEADERS = 64 * 1024  # bytes that a dead letter may be larger than the record
SHORT = timedelta(days=1)
SLIGHT, GROSS = timedelta(seconds=2), timedelta(seconds=60)


async def names(patient: Patient) -> Findings:
    """Whether the brokers' names resolve."""
    if not patient.servers:
        return [wrong("no Kafka cluster is named", f"set {SERVERS}")]

    async def resolve(host: str, port: int) -> None:
        await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)

    return await each(patient, resolve, "resolves", f"correct {SERVERS}, or this machine's DNS")


async def ports(patient: Patient) -> Findings:
    """Whether anything listens there."""

    async def connect(host: str, port: int) -> None:
        _, writer = await asyncio.open_connection(host, port)
        writer.close()

    return await each(
        patient, connect, "listens", f"start the broker, open the firewall, or correct {SERVERS}"
    )


async def each(
    patient: Patient, attempt: Callable[[str, int], Awaitable[None]], verb: str, mend: str
) -> Findings:
    """Try every bootstrap server: one is enough to work, all are better."""
    good: list[str] = []
    bad: list[str] = []
    for host, port in patient.servers:
        try:
            async with asyncio.timeout(patient.patience):
                await attempt(host, port)
            good.append(f"{host}:{port}")
        except OSError as error:  # a TimeoutError is one
            bad.append(f"{host}:{port}: {error.strerror or str(error) or 'no answer'}")
    if not good:
        return [wrong("; ".join(bad), mend, UNREACHABLE)]
    return [ok(f"{', '.join(good)} {verb}"), *(warning(line, mend) for line in bad)]


async def login(patient: Patient) -> Findings:
    """Whether the brokers speak to us: TLS, SASL, protocol."""
    patient.lookup = Lookup(patient.connection, patient.patience)
    try:
        async with asyncio.timeout(3 * patient.patience):
            await patient.exits.enter_async_context(patient.lookup)
            count = await patient.lookup.brokers()
    except TimeoutError:
        raise Unavailable("the brokers took the connection and did not answer", "kafka_timeout") from None
    reached = f"{count} broker{'s let' if count > 1 else ' lets'} us in"
    return [ok(f"{patient.kafka.security_protocol}: {reached}")]


async def topics(patient: Patient) -> Findings:
    """Whether all topics are there."""
    wanted = [*patient.sources, patient.kafka.dead_letter_topic]
    patient.partitions = await patient.lookup.topics(wanted)
    lacking = [
        wrong(f"there is no topic {topic}", CREATE) for topic in wanted if topic not in patient.partitions
    ]
    found = ", ".join(f"{topic} ({count})" for topic, count in patient.partitions.items())
    return lacking or [ok(f"{found}; in brackets their partitions")]


async def leaders(patient: Patient) -> Findings:
    """Whether each partition's leader answers, at the address it advertises."""
    try:
        found = await patient.lookup.beginnings(patient.parts(*patient.partitions))
    except Unavailable as error:
        return [wrong(error.message, ADVERTISED, UNREACHABLE)]
    return [ok(f"the leaders of {len(found)} partitions answer")]


async def topic_settings(patient: Patient) -> Findings:
    """Stamps, compaction and retention of the topics that are read."""
    return [finding for topic in patient.sources for finding in await of_source(patient, topic)]


async def of_source(patient: Patient, topic: str) -> Findings:
    settings = await told(patient, topic)
    found: list[Finding] = []
    if "compact" in settings.get("cleanup.policy", ""):
        what = f"{topic} is compacted: of the events with one key only the last would stay"
        found.append(wrong(what, alter(patient, topic, "cleanup.policy=delete")))
    retention = milliseconds(settings.get("retention.ms"))
    if retention is not None and retention < SHORT:
        what = f"{topic} keeps records for {retention} only: workers that stop for longer lose events"
        found.append(warning(what, alter(patient, topic, "retention.ms=604800000")))
    stamps = settings.get("message.timestamp.type")
    if stamps is None:
        return found or [skipped(f"{topic}: the brokers do not tell its settings")]
    if stamps != "LogAppendTime":
        what = f"{topic} is stamped by its producers: a worker's clock must tell what lies in the future"
        found.append(warning(what, alter(patient, topic, "message.timestamp.type=LogAppendTime")))
    return found or [ok(f"{topic}: stamped by the broker, not compacted, {kept(retention)}")]


async def dead_letters(patient: Patient) -> Findings:
    """Whether the dead-letter topic takes any record with headers, and keeps it."""
    topic = patient.kafka.dead_letter_topic
    settings = await told(patient, topic)
    found: list[Finding] = []
    largest = int(settings.get("max.message.bytes", LARGEST))
    needed = HEADERS + max([await largest_of(patient, source) for source in patient.sources])
    if settings and largest < needed:
        what = (
            f"{topic} takes {largest:,} bytes: the largest rejects would be dead-lettered without their value"
        )
        found.append(warning(what, alter(patient, topic, f"max.message.bytes={2 * (needed - HEADERS)}")))
    retention = milliseconds(settings.get("retention.ms"))
    if retention is not None:
        found.append(warning(f"{topic} forgets after {retention}", alter(patient, topic, "retention.ms=-1")))
    if "compact" in settings.get("cleanup.policy", ""):
        found.append(warning(f"{topic} is compacted", alter(patient, topic, "cleanup.policy=delete")))
    if not settings:
        return [skipped(f"{topic}: the brokers do not tell its settings")]
    return found or [ok(f"{topic} takes {largest:,} bytes and keeps them for ever")]


async def groups(patient: Patient) -> Findings:
    """Whether we may see the consumer groups."""
    committed = 0
    for projection in patient.registry.projections.values():
        partitions = patient.parts(patient.kafka.topic(projection.topic))
        committed += bool(await patient.lookup.committed(group_of(projection.name), partitions))
    return [ok(f"{committed} of {len(patient.registry.projections)} consumer groups have committed")]


async def clock(patient: Patient) -> Findings:
    """The broker's clock, by the stamps of the last records: nothing is written to find out."""
    ends = await patient.lookup.stable_ends(patient.parts(*patient.sources))
    starts = {p: max(0, end - 1) for p, end in ends.items()}
    stamps: list[int] = []
    reader = LogReader(patient.connection, starts, ends, stall=patient.patience)
    async with aclosing(reader.chunks()) as log:
        async for _, records in log:
            stamps += [r.timestamp for r in records if r.timestamp_type == LOG_APPEND_TIME]
    if not stamps:
        return [skipped("no record with a broker's stamp to compare this machine's clock with")]
    ahead = datetime.fromtimestamp(max(stamps) / 1000, UTC) - patient.clock()
    if ahead > SLIGHT:
        what = f"the last record was stamped {ahead.total_seconds():.1f} s ahead of this machine's clock"
        mend = "let NTP set the clocks of this machine and of the brokers"
        return [wrong(what, mend, FOUND) if ahead > GROSS else warning(what, mend)]
    return [ok(f"the last record was stamped {-ahead.total_seconds():,.1f} s ago, not ahead of this clock")]


async def told(patient: Patient, topic: str) -> dict[str, str]:
    """The topic's settings; none where this cluster does not tell them."""
    with suppress(IngestError):
        return await patient.lookup.settings(topic)
    return {}


async def largest_of(patient: Patient, topic: str) -> int:
    return int((await told(patient, topic)).get("max.message.bytes", LARGEST))


def milliseconds(text: str | None) -> timedelta | None:
    """A limit of time; None for none."""
    return timedelta(milliseconds=int(text)) if text and int(text) >= 0 else None


def kept(retention: timedelta | None) -> str:
    return f"kept for {retention}" if retention else "kept for as long as the brokers' default says"


def alter(patient: Patient, topic: str, setting: str) -> str:
    return (
        f"kafka-configs.sh --bootstrap-server {patient.kafka.bootstrap_servers} --alter"
        f" --entity-type topics --entity-name {topic} --add-config {setting}"
    )
