"""`activity-ingest completion`: a script that teaches a shell our commands and options."""

import click
from click.shell_completion import get_completion_class

from ingest.cli.options import examples


@click.command(
    "completion",
    epilog=examples(
        "activity-ingest completion bash > ~/.local/share/bash-completion/completions/activity-ingest",
        "echo 'eval \"$(activity-ingest completion zsh)\"' >> ~/.zshrc",
        "activity-ingest completion fish > ~/.config/fish/completions/activity-ingest.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a completion script for SHELL."""
    root = ctx.find_root()
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(root.command, {}, "activity-ingest", "_ACTIVITY_INGEST_COMPLETE").source())
