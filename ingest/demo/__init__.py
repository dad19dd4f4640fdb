"""The whole service in about a minute, on servers of its own, and the proof that its tables are right.

scene       what happens: traffic, a worker stopped in mid-stream, a second one, the proof
worker      the worker's process and what its metrics say
probe       how long an event takes to become a row, asked of the table itself
figures     what is seen meanwhile and told at the end
"""

from ingest.demo.figures import Outcome, View
from ingest.demo.scene import Plan, play

__all__ = ["Outcome", "Plan", "View", "play"]
