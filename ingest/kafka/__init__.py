"""Kafka: the only room that imports aiokafka.

client       settings -> how brokers are reached         oauth         tokens for OAUTHBEARER
faults       their errors -> ours                        quiet         their log lines, thinned out
lookup       questions: topics, offsets, commits         answers       what brokers reply (pure)
placing      where reading starts (pure)                 placer        asks for what that needs
assignment   what a member holds (pure)                  membership    rebalances
commits      forward only, one at a time                 source        a group's member: poll, commit
consumer     aiokafka's consumer in our words            internals     what it does not offer in public
reader       reading outside a group                     producer      batches to the brokers
deadletters  rejects, with headers                       publisher     events, many a second
fetched      records, light and lenient                  admin         making topics
"""

from ingest.kafka.admin import Topic, create_topics, dead_letter_topic, source_topic
from ingest.kafka.assignment import Listener
from ingest.kafka.client import Connection
from ingest.kafka.deadletters import KafkaDeadLetters
from ingest.kafka.lookup import Group, Lookup
from ingest.kafka.publisher import Publisher
from ingest.kafka.quiet import Gate, thin_out
from ingest.kafka.reader import LogReader, read_again
from ingest.kafka.source import KafkaSource

__all__ = [
    "Connection",
    "Gate",
    "Group",
    "KafkaDeadLetters",
    "KafkaSource",
    "Listener",
    "LogReader",
    "Lookup",
    "Publisher",
    "Topic",
    "create_topics",
    "dead_letter_topic",
    "read_again",
    "source_topic",
    "thin_out",
]
