"""The `threadmatch` command: one module a subcommand, assembled here.

Heavy imports (torch, faiss) stand inside the command functions, so that `--help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from threadmatch.service.cli.adapt import adapt
from threadmatch.service.cli.attributes import evaluate_attributes, train_attributes
from threadmatch.service.cli.bench import bench
from threadmatch.service.cli.calibrate import calibrate
from threadmatch.service.cli.curves import curves
from threadmatch.service.cli.data import data_app
from threadmatch.service.cli.demo import demo
from threadmatch.service.cli.evaluate import evaluate
from threadmatch.service.cli.explanations import evaluate_detector, evaluate_explanations
from threadmatch.service.cli.gallery import gallery_app
from threadmatch.service.cli.ingest import ingest
from threadmatch.service.cli.keys import keys_app
from threadmatch.service.cli.plain_help import speak_plainly
from threadmatch.service.cli.search import search
from threadmatch.service.cli.serve import ServeCommand, serve
from threadmatch.service.cli.table import table
from threadmatch.service.cli.train import train
from threadmatch.service.process.collecting import collect_seldom
from threadmatch.service.process.threads import let_waiting_threads_sleep

app = typer.Typer(
    name="threadmatch",
    help="Find the garment of a street photo in a shop's catalogue.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"threadmatch {version('threadmatch')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", help="Say which release this is.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """What comes before a subcommand."""


app.command("adapt")(adapt)
app.command("bench")(bench)
app.command("calibrate")(calibrate)
app.command("curves")(curves)
app.command("demo")(demo)
app.command("evaluate")(evaluate)
app.command("evaluate-attributes")(evaluate_attributes)
app.command("evaluate-detector")(evaluate_detector)
app.command("evaluate-explanations")(evaluate_explanations)
app.add_typer(data_app, name="data")
app.add_typer(gallery_app, name="gallery")
app.command("ingest")(ingest)
app.add_typer(keys_app, name="keys")
app.command("search")(search)
app.command("serve", cls=ServeCommand)(serve)
app.command("table")(table)
app.command("train")(train)
app.command("train-attributes")(train_attributes)


def main() -> None:
    """Entry point of the `threadmatch` command."""
    collect_seldom()
    let_waiting_threads_sleep()
    command = typer.main.get_command(app)
    speak_plainly(command)
    command()
