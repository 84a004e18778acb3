"""The whole way: choose a gallery, ingest it, serve it, search it, and keep serving."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from threadmatch.model.descriptions import DEFAULT_MODEL, SHIPPED, read_description, shipped_models
from threadmatch.service.demo.asking import Outcome, ask, check_service, read_queries
from threadmatch.service.demo.errors import DemoError
from threadmatch.service.demo.picture import write_contact_sheet
from threadmatch.service.demo.report import show_outcome, show_total
from threadmatch.service.demo.sources import DemoSource, choose_source
from threadmatch.service.process.commands import CommandError, Service, print_command, run_command, service


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What `threadmatch demo` was asked for; its help says what each is."""

    data: Path | None
    drawn_items: int | None
    parts: tuple[str, ...] | None
    queries: int
    candidates: int
    port: int
    model: str
    work: Path
    check: bool
    picture: Path | None


def run_demo(options: DemoOptions, console: Console) -> None:
    """Run every step; returns when the service has ended.

    Raises:
        DemoError, CommandError, ModelError, IndexerError: a step went wrong; the message says which.
        KeyboardInterrupt: the user's; the service was stopped.
    """
    _check_port(options.port)
    fingerprint = _features_fingerprint(options.model or DEFAULT_MODEL)
    console.print("Looking for photos; making street queries ...")
    source = choose_source(
        options.data,
        options.work,
        queries=options.queries,
        parts=options.parts,
        drawn_items=options.drawn_items,
        run_step=run_command,
    )
    console.print(f"Gallery: {source.title}.\nQueries: {source.about_queries}.", soft_wrap=True)
    # A gallery is tied to the model that made it: another model gets another folder, the same one finds its work done.
    gallery = source.work / f"gallery-{fingerprint}"
    model = ["--model", options.model] if options.model else []
    run_command(
        ["ingest", str(source.catalogue), "--images", str(source.images), "--gallery", str(gallery), "--prune", *model]
    )
    serve = ["serve", "--gallery", str(gallery), "--port", str(options.port), *model]
    print_command(serve)
    with service(serve, gallery.with_name("serve.log")) as running:
        outcomes = _ask_all(running, source, options, console)
        show_total(console, outcomes, source.about_queries)
        console.print(f"\nServing on {running.address} (log: {running.log})", soft_wrap=True)
        if options.check:
            if code := running.stop():
                raise CommandError(f"the service ended with exit code {code}; its log is {running.log}")
            console.print("Checked: every step answered well.")
            return
        console.print(f"Open it, or: curl -F image=@{outcomes[0].query.path} {running.address}/search", soft_wrap=True)
        console.print("Ctrl-C stops it.")
        code = running.wait()
        raise CommandError(f"the service ended by itself with exit code {code}; its log is {running.log}")


def _ask_all(running: Service, source: DemoSource, options: DemoOptions, console: Console) -> list[Outcome]:
    queries = read_queries(source.queries, options.queries)
    with httpx.Client(base_url=running.address) as client:
        check_service(client)
        console.print(f"\nPOST {running.address}/search, {len(queries)} street photos; * is the right item")
        outcomes = []
        for number, query in enumerate(queries, start=1):
            outcomes.append(ask(client, query, candidates=options.candidates))
            show_outcome(console, number, outcomes[-1])
        if options.picture is not None:
            write_contact_sheet(options.picture, outcomes, client, candidates=options.candidates)
            console.print(f"\nwrote {options.picture}")
    return outcomes


def _check_port(port: int) -> None:
    """Say that a port is taken before minutes of work, not after."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DemoError(f"port {port} cannot be served on ({error.strerror}); choose another --port") from error


def _features_fingerprint(model: str) -> str:
    """What ties a gallery to a model, read off its description without loading the weights."""
    folder = SHIPPED / model if model in shipped_models() else Path(model)
    if not folder.is_dir() and model != DEFAULT_MODEL:
        return model.replace("/", "--")  # a repository id: loading it will say whether it exists
    return str(read_description(folder)["features_fingerprint"])
