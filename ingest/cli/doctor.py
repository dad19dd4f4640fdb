"""`activity-ingest doctor`: check settings, Kafka and Postgres, step by step."""

import asyncio

import click

from ingest.cli.context import Context
from ingest.cli.options import examples, json_option
from ingest.cli.output import coloured, show_json
from ingest.doctor import Finding, Level, Patient, examine, exit_code

COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.WRONG: "red", Level.SKIPPED: "bright_black"}


@click.command("doctor", epilog=examples("activity-ingest doctor", "activity-ingest doctor --json"))
@json_option
def command(as_json: bool) -> int:
    """Check settings, Kafka and Postgres, step by step, and say how to mend what is wrong.

    Nothing is changed. What cannot be right because of something before it is skipped. Exit codes: 0
    nothing is wrong (there may be warnings), 2 set up wrongly, 3 not reachable, 1 anything else; they
    are those of the first thing that is wrong.
    """
    # Not run as other commands are: this one must also work where uvloop is missing.
    findings = asyncio.run(look(as_json))
    if as_json:
        show_json([finding.plain() for finding in findings])
    return exit_code(findings)


async def look(quiet: bool) -> list[Finding]:
    context = Context()
    patient = Patient(lambda: context.registry, lambda: context.settings)
    findings = []
    async for finding in examine(patient):
        findings.append(finding)
        if not quiet:
            show(finding)
    return findings


def show(finding: Finding) -> None:
    level = coloured(f"{finding.level:<8}", COLOURS[finding.level])
    click.echo(f"{level} {finding.check}: {finding.what}")
    if finding.mend:
        click.echo(f"    mend {finding.mend}")
