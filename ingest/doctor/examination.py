"""The checks in order, and which needs which."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from ingest.doctor import brokers, machine, progress, server
from ingest.doctor.finding import Finding, Findings, Level, failed, skipped
from ingest.doctor.patient import Patient
from ingest.errors import IngestError


@dataclass(frozen=True, slots=True)
class Check:
    """`look` is run unless one of `needs` was wrong or not looked at; `mend` is for its time-outs."""

    name: str
    look: Callable[[Patient], Awaitable[Findings]]
    needs: tuple[str, ...] = ()
    mend: str = ""


KAFKA = "check the ACTIVITY_KAFKA__* settings against the listener; see the broker's log"
POSTGRES = "start the database, open the firewall, or correct ACTIVITY_POSTGRES__DSN"

CHECKS = (
    Check("settings", machine.settings),
    Check("codecs", machine.codecs),
    Check("event loop", machine.event_loop),
    Check("broker names", brokers.names, ("settings",)),
    Check("broker ports", brokers.ports, ("broker names",)),
    Check("broker login", brokers.login, ("broker ports",), KAFKA),
    Check("topics", brokers.topics, ("broker login",), KAFKA),
    Check("partition leaders", brokers.leaders, ("topics",), KAFKA),
    Check("topic settings", brokers.topic_settings, ("topics",), KAFKA),
    Check("dead letters", brokers.dead_letters, ("topics",), KAFKA),
    Check("consumer groups", brokers.groups, ("topics",), KAFKA),
    Check("broker clock", brokers.clock, ("partition leaders",), KAFKA),
    Check("database", server.login, ("settings",), POSTGRES),
    Check("database version", server.version, ("database",), POSTGRES),
    Check("schema", server.schema, ("database version",), POSTGRES),
    Check("rights", server.rights, ("database version",), POSTGRES),
    Check("pinned settings", server.pinned, ("schema", "rights"), POSTGRES),
    Check("durability", server.durability, ("database",), POSTGRES),
    Check("connections", server.connections, ("database",), POSTGRES),
    Check("database clock", server.clock, ("database",), POSTGRES),
    Check(
        "next offsets", progress.next_offsets, ("partition leaders", "consumer groups", "schema", "rights")
    ),
)


async def examine(patient: Patient) -> AsyncIterator[Finding]:
    """What each check finds, as soon as it is found. Raises nothing but bugs."""
    passed: set[str] = set()
    async with patient.exits:
        for check in CHECKS:
            if missing := [need for need in check.needs if need not in passed]:
                yield replace(skipped(f"needs {missing[0]} to be right first"), check=check.name)
                continue
            found = await _look(check, patient)
            if not any(finding.level is Level.WRONG for finding in found):
                passed.add(check.name)
            for finding in found:
                yield replace(finding, check=check.name)


async def _look(check: Check, patient: Patient) -> Findings:
    try:
        return await check.look(patient)
    except IngestError as error:
        return failed(error, check.mend)
