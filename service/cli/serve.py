"""`threadmatch serve`: the HTTP service in front of one gallery."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from threadmatch.service.config import Settings


class ServeCommand(TyperCommand):
    """Lists every setting below its help; made when asked, so that other commands need not import the settings."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from threadmatch.service.settings_table import settings_table, shown_default

        for option in self.params:
            default = shown_default(option.name or "")
            said = option.help.rstrip(".")  # type: ignore[attr-defined]
            if default and not said.endswith(")"):
                option.help = f"{said} (default: {default})."  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)

        typer.echo("Settings, as environment variables; an option given on the command line wins:\n")
        for name, possible, default, description in settings_table():
            typer.echo(f"  {name}")
            typer.echo(f"      {description}")
            typer.echo(f"      possible: {possible}   default: {default}")


def serve(
    gallery: Annotated[Path | None, typer.Option(help="Folder of the gallery, made by `threadmatch ingest`.")] = None,
    *,
    named_gallery: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="A further gallery; give it once for each."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one and prints it.")] = None,
    keys: Annotated[Path | None, typer.Option(help="File of API keys, made by `threadmatch keys add`.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; each holds the model once.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="auto, torch, openvino or openvino-bfloat16: what encodes photos.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model name or folder; else the gallery's own.")] = None,
    wait_for_gallery: Annotated[
        bool | None,
        typer.Option("--wait-for-gallery", help="Start without a gallery; answer 503 until there is one."),
    ] = None,
) -> None:
    """Serve /search over HTTP until SIGTERM or Ctrl-C, then let searches in progress end."""
    from threadmatch.service.config import load_settings
    from threadmatch.service.errors import SettingsError, StartError
    from threadmatch.service.watching.logs import set_up_logging

    try:
        settings = load_settings(
            gallery=gallery,
            galleries=named_gallery or None,
            host=host,
            port=port,
            keys=keys,
            workers=workers,
            device=device,
            engine=engine,
            model=model,
            wait_for_gallery=wait_for_gallery,
        )
    except SettingsError as error:
        typer.echo(f"threadmatch serve: {error}", err=True)
        raise typer.Exit(2) from error
    set_up_logging(settings.log_level)
    try:
        _run(settings)
    except StartError as error:
        typer.echo(f"threadmatch serve: {error}", err=True)
        raise typer.Exit(1) from error


def _run(settings: Settings) -> None:
    from threadmatch.service.access.wiring import check_reach
    from threadmatch.service.process.server import address_of, bind, run_here, run_workers

    check_reach(settings)
    logger.info("starting", extra={"gallery": str(settings.gallery), "workers": settings.workers})
    with bind(settings.host, settings.port) as listener:

        def ready() -> None:
            print(f"threadmatch serves {address_of(listener)}", flush=True)

        if not settings.wait_for_gallery:
            _check_galleries(settings)
        if settings.workers > 1:
            run_workers(listener, settings, ready=ready)
            return
        from threadmatch.service.app import create_app
        from threadmatch.service.config import DEFAULT_GALLERY
        from threadmatch.service.galleries.loading import open_all

        if settings.wait_for_gallery:
            app = create_app(settings)
        else:
            model, opened = open_all(settings)
            app = create_app(settings, model=model, gallery=opened[DEFAULT_GALLERY], further=opened)
        run_here(app, listener, settings, ready=ready)


def _check_galleries(settings: Settings) -> None:
    """Say at once, before torch is imported, what the manifests would have each worker say; it reads the indexes."""
    from threadmatch.indexer.errors import IndexerError
    from threadmatch.indexer.opening import current_manifest
    from threadmatch.indexer.stamps import check_model
    from threadmatch.service.errors import StartError

    try:
        made_with = current_manifest(settings.gallery).model
    except IndexerError as error:
        raise StartError(str(error)) from error
    for name, folder in settings.galleries.items():
        try:
            further = current_manifest(folder).model
            check_model(further.name, further.features_fingerprint, made_with.name, made_with.features_fingerprint)
        except IndexerError as error:
            raise StartError(f"gallery {name!r} ({folder}): {error}") from error
