"""The settings in force, and what can be set.

section.py      what the sections share
kafka.py        how to reach and read the brokers
postgres.py     how to reach the database
worker.py       batches, limits of the contract, http, logs
variables.py    settings as an operator meets them: names, what each allows, what is wrong
environment.py  the only reader of the environment, .env and the secrets directory
load.py         all of it together, with a section for each projection
"""

from ingest.settings.environment import projection_folders
from ingest.settings.kafka import KafkaSettings
from ingest.settings.load import ProjectionSettings, Settings, describe, env_example, load
from ingest.settings.postgres import PostgresSettings
from ingest.settings.variables import Variable
from ingest.settings.worker import ContractSettings, HttpSettings, LogSettings, WorkerSettings

__all__ = [
    "ContractSettings",
    "HttpSettings",
    "KafkaSettings",
    "LogSettings",
    "PostgresSettings",
    "ProjectionSettings",
    "Settings",
    "Variable",
    "WorkerSettings",
    "describe",
    "env_example",
    "load",
    "projection_folders",
]
