"""The one place where an error becomes an exit code and one line for people."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import click

from ingest.errors import FoundWrong, IngestError, Misconfigured, Unavailable

FOUND_WRONG, SET_UP_WRONGLY, NOT_REACHABLE = 1, 2, 3
BUG = 70
INTERRUPTED = 130
BROKEN_PIPE = 141
CODES = ((Unavailable, NOT_REACHABLE), (Misconfigured, SET_UP_WRONGLY), (FoundWrong, FOUND_WRONG))


class NobodyReads(Exception):
    """Standard output was closed by its reader. Not an OSError: click would turn that into exit code 1."""


def exit_code(command: Callable[[], Any], arguments: Sequence[str]) -> int:
    """Run `command` and return the code to leave with, after saying on stderr what went wrong."""
    try:
        done = command()
        sys.stdout.flush()
        return done if isinstance(done, int) else 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as misuse:
        misuse.show()
        return misuse.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        return INTERRUPTED
    except (BrokenPipeError, NobodyReads):
        _forget_stdout()
        return BROKEN_PIPE
    except Exception as error:
        if _debugging(arguments):
            traceback.print_exc()
        click.echo(line(error), err=True)
        return next((code for kind, code in CODES if isinstance(error, kind)), _other(error))


def line(error: Exception) -> str:
    """What went wrong and its mend: one line, or one for each of several faults."""
    if isinstance(error, Misconfigured):
        what, mend = error.message, error.mend
    elif isinstance(error, IngestError):
        what, mend = error.message, ""
    else:
        what, mend = f"{type(error).__name__}: {error}", "this is a bug: report what --debug shows"
    faults = [f"activity-ingest: {what}".rstrip(), *([f"mend: {mend}"] if mend else [])]
    if "\n" in what:
        return "\n".join(faults).replace("\n", "\n  ")
    return faults[0] + "".join(f" ({mend})" for mend in faults[1:])


def _other(error: Exception) -> int:
    return FOUND_WRONG if isinstance(error, IngestError) else BUG


def _debugging(arguments: Sequence[str]) -> bool:
    """Whether a traceback was asked for, by option or by the log level."""
    if "--debug" in arguments:
        return True
    from ingest.settings import load

    try:
        return str(load().log.level).lower() == "debug"
    except Exception:
        return False  # settings that do not load are told by the error itself


def _forget_stdout() -> None:
    """Nobody reads any more: the interpreter's last flush must not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
