"""Examines, in order, everything that a first-time operator gets wrong, and changes nothing.

finding.py      what a check found, and the mend
patient.py      what the checks share: settings, connections, what was learned so far
machine.py      settings, codecs, event loop
brokers.py      Kafka: name, port, login, leaders, topics, dead letters, groups, clock
server.py       Postgres: login, version, rights, schema, pinned settings, durability, clock
progress.py     Kafka and Postgres against each other
examination.py  the checks in order, and which needs which
"""

from ingest.doctor.examination import CHECKS, examine
from ingest.doctor.finding import Finding, Level, exit_code
from ingest.doctor.patient import Patient

__all__ = ["CHECKS", "Finding", "Level", "Patient", "examine", "exit_code"]
