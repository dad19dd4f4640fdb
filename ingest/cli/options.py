"""Options that several commands share, so that they mean the same everywhere."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_duration(text: str) -> timedelta:
    """`24h`, `90m`, `30d`, `1h30m`, `45s`: greatest unit first. Raises ValueError for anything else."""
    match = DURATION.fullmatch(text.strip().lower())
    if not match or not any(match.groups()):
        raise ValueError(f"'{text}' is not a duration such as 24h, 90m, 30d or 1h30m")
    amounts = zip(UNITS.values(), match.groups(), strict=True)
    try:
        return timedelta(**{unit: float(amount) for unit, amount in amounts if amount})
    except OverflowError:
        raise ValueError(f"'{text}' is too long a duration") from None


class Duration(click.ParamType[timedelta]):
    """A length of time such as 24h; becomes a timedelta."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def examples(*lines: str) -> str:
    """The end of a command's help: how one calls it."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def complete_projection(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from ingest import registry
    from ingest.settings import projection_folders

    return [
        CompletionItem(name)
        for name in registry.load(projection_folders()).projections
        if name.startswith(incomplete)
    ]


def projections_argument(command: Decorated) -> Decorated:
    """Any number of projections, none meaning all; its parameter is `projections`."""
    return click.argument(
        "projections", nargs=-1, metavar="[PROJECTION]...", shell_complete=complete_projection
    )(command)


def json_option(command: Decorated) -> Decorated:
    """Every command that answers a question has it; its parameter is `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")(command)
