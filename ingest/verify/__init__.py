"""Proves that the tables hold what the log says, by an account of the log that shares no merge code.

    ports.py      what a proof needs of the log and of the database
    letters.py    the dead letters of one projection, by origin
    judge.py      which events the rows must hold, which they may, and what was lost on the way
    compare.py    stored rows against expected ones, column by column
    folding.py    reads both into the projection's reference
    shares.py     a log too large for memory, in several passes
    report.py     what was proved, and every difference
    terms.py      what is verified, and how to go about it
    proof.py      the steps in order

Each record of the log is in the rows, or in the dead-letter topic, or not ours: nothing else passes.
"""

from ingest.verify.proof import verify
from ingest.verify.report import Difference, Proof, Report, TableReport
from ingest.verify.terms import Subject, Terms

__all__ = ["Difference", "Proof", "Report", "Subject", "TableReport", "Terms", "verify"]
