"""The `threadmatch` command: one module a subcommand, assembled here.

Heavy imports (torch, faiss) stand inside the command functions, so that `--help` answers at once.
"""

from __future__ import annotations

import typer

app = typer.Typer(
    name="threadmatch",
    help="Find the garment of a street photo in a shop's catalogue.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Entry point of the `threadmatch` command."""
    app()
