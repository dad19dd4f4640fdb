"""Kafka and Postgres against each other: whether what is to be read next is still there."""

from ingest.doctor.finding import Finding, Findings, ok, wrong
from ingest.doctor.patient import Patient
from ingest.errors import LostOffsets
from ingest.kafka.placing import Log, place
from ingest.postgres.progress import start_offsets
from ingest.status import group_of


async def next_offsets(patient: Patient) -> Findings:
    """Whether each partition still has the offset that its projection reads next."""
    found: list[Finding] = []
    waiting = 0
    for projection in patient.registry.projections.values():
        partitions = patient.parts(patient.kafka.topic(projection.topic))
        begins = await patient.lookup.beginnings(partitions)
        ends = await patient.lookup.ends(partitions)
        commits = await patient.lookup.committed(group_of(projection.name), partitions)
        stored = await start_offsets(patient.database, projection.name, partitions)
        for p in partitions:
            try:
                log = Log(begins[p], ends[p])
                waiting += (
                    log.end - place(p, commits.get(p), stored.get(p), log, patient.kafka.offset_reset).start
                )
            except LostOffsets as error:
                found.append(wrong(f"{projection.name}: {error.message}", error.mend))
    return found or [ok(f"the log still has all that is to be read: {waiting:,} records")]
