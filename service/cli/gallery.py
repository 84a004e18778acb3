"""`threadmatch gallery`: look at a gallery, check it, and keep it tidy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

gallery_app = typer.Typer(help="Look at a gallery, check it, and keep it tidy.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="folder of the gallery, or cluster://NAME", metavar="DIR")]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")]


@gallery_app.command("info")
def info(folder: Folder, *, as_json: AsJson = False) -> None:
    """What is in service: generation, items, model, index, columns."""
    from threadmatch.indexer.opening import open_gallery

    with _errors():
        gallery = open_gallery(folder)
        manifest = gallery.describe()
        changes = manifest["changes"] = gallery.describe_changes()
        items = manifest["items_now"] = gallery.item_count
        gallery.close()
    stamp, index = manifest["model"], manifest["index"]
    _show(
        manifest,
        as_json,
        f"generation  {manifest['generation']}, {manifest['kind']} of {manifest['created']}",
        f"items       {items} ({manifest['rejected']} rows rejected)",
        f"changes     {_changes(changes)}",
        f"model       {stamp['name']} {stamp['fingerprint']} (features {stamp['features_fingerprint']})",
        f"features    {', '.join(_feature(spec) for spec in manifest['features'])}",
        f"index       {index['type']}, recall@200 {index['recall_at_200']} on {index['measured_queries']} queries"
        f"{_of_photos(index['parameters'])}; {index['why']}",
        *_filters(index["parameters"]),
        f"columns     {', '.join(f'{name} ({kind})' for name, kind in manifest['columns'].items()) or 'none'}",
    )


def _of_photos(parameters: dict[str, Any]) -> str:
    """What queries find that are not near the gallery, where that was measured."""
    from threadmatch.indexer.index_building import RECALL_LIKE, RECALL_UNLIKE

    if RECALL_LIKE not in parameters:
        return ""
    return f" between items ({parameters[RECALL_LIKE]} of queries like photos, {parameters[RECALL_UNLIKE]} of others)"


def _filters(parameters: dict[str, Any]) -> list[str]:
    """How filtered searches of a large gallery choose, and what they find; one line or none."""
    from threadmatch.indexer.projection import PROJECTED, RECALL_LIKE, RECALL_UNLIKE, Widths

    if PROJECTED not in parameters:
        return []
    recall = "recall@200 not known of queries like photos: the next generation measures it"
    if RECALL_LIKE in parameters:
        recall = f"recall@200 {parameters[RECALL_LIKE]} of queries like photos, {parameters[RECALL_UNLIKE]} of others"
    widths = Widths.read(parameters)
    chosen = f"{parameters[PROJECTED]} components choose {widths.like} (for others {widths.unlike or widths.like}),"
    if not parameters[PROJECTED]:
        chosen = "all that are let through are compared; what components would choose has"
    return [f"filters     {chosen} {recall}"]


def _feature(spec: dict[str, Any]) -> str:
    part = f" (part {spec['made_by']})" if spec["made_by"] else ""
    return f"{spec['name']} {'x'.join(map(str, spec['shape']))} {spec['dtype']}{part}"


@gallery_app.command("list")
def list_(folder: Folder, *, as_json: AsJson = False) -> None:
    """All generations, the one in service marked."""
    from threadmatch.indexer.keeping import list_generations

    with _errors():
        found = list_generations(folder)
    lines = []
    for entry in found:
        mark = "*" if entry["current"] else " "
        about = entry.get("error") or "{created}  {kind:<7}  {items} items  {index}".format(**entry)
        lines.append(f"{mark} {entry['generation']}  {about}")
    _show(found, as_json, *(lines or ["no finished generation"]))


@gallery_app.command("verify")
def verify(folder: Folder, *, as_json: AsJson = False) -> None:
    """Check every checksum, and the index against the database. Exit 1 when anything is wrong."""
    from threadmatch.indexer.keeping import verify as run

    with _errors():
        report = run(folder, tell=lambda items: typer.echo(f"{items} items checked", err=True))
    verdict = f"{len(report.problems)} problems" if report.problems else "all good"
    beside = f" and {report.changes} changes on top" if report.changes else ""
    summary = f"generation {report.generation}: {report.items} items{beside}, {verdict}"
    _show(report.as_json(), as_json, *report.problems, summary)
    if report.problems:
        raise typer.Exit(1)


@gallery_app.command("rollback")
def rollback(
    folder: Folder,
    *,
    to: Annotated[str | None, typer.Option(help="generation to put in service; default: the one before")] = None,
    edits: Annotated[
        bool, typer.Option("--edits/--no-edits", help="keep on top what was put and deleted over HTTP since then")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Put an earlier generation in service. A running service follows by itself; nothing is deleted.

    Items put or deleted over HTTP since that generation stay so, unless --no-edits takes them back too.
    """
    from threadmatch.indexer.keeping import rollback as run

    with _errors():
        manifest = run(folder, to, edits=edits)
    result = {"generation": manifest.generation, "items": manifest.items}
    _show(result, as_json, f"generation {manifest.generation} is in service: {manifest.items} items")


@gallery_app.command("compact")
def compact(
    folder: Folder,
    *,
    keep: Annotated[int, typer.Option(min=1, help="generations to keep")] = 2,
    fold_only: Annotated[
        bool, typer.Option("--fold-only", help="fold changed items into the index, remove nothing; as the service does")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fold changed items into the index, remove what no kept generation needs, and give its room back.

    Searches and changes go on meanwhile, but changes wait while the database file is shrunk, at the very end.
    """
    from threadmatch.indexer.keeping import compact as run
    from threadmatch.indexer.keeping import fold

    with _errors():
        result = fold(folder) if fold_only else run(folder, keep=keep)
    text = "generation {generation}: {folded} changes folded, {pending} wait"
    if not fold_only:
        text += "; removed {generations} generations, {rows} row versions, {contents} photos' features; {bytes} bytes"
    lines = [text.format(**result)]
    if result["pending"] and not result["folded"]:
        lines.append("an ingestion was broken off: run it again, and the changes are folded after it")
    _show(result, as_json, *lines)


@gallery_app.command("delete")
def delete(
    folder: Folder,
    item_ids: Annotated[list[str], typer.Argument(help="ids of the items", metavar="ITEM_ID...")],
    *,
    as_json: AsJson = False,
) -> None:
    """Publish a generation without these items. Their rows stay until `compact`, so a rollback brings them back."""
    from threadmatch.indexer.keeping import delete_items

    with _errors():
        manifest = delete_items(folder, item_ids)
    result = {"generation": manifest.generation, "items": manifest.items, "deleted": len(set(item_ids))}
    _show(result, as_json, f"generation {manifest.generation} is in service: {manifest.items} items")


@gallery_app.command("export")
def export(
    folder: Folder,
    out: Annotated[Path, typer.Argument(help="catalogue to write: .csv, .jsonl or .parquet")],
    *,
    photos: Annotated[Path | None, typer.Option(help="folder to write the display photos to")] = None,
    with_photos: Annotated[
        bool, typer.Option("--with-photos", help="the same, to a folder beside the catalogue: NAME.photos")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the items as a catalogue that `threadmatch ingest` reads.

    Without photos the catalogue names those it was ingested from; items that were put over HTTP then have none.
    """
    from threadmatch.indexer.export import export as run

    if with_photos and photos is None:
        photos = out.with_suffix(".photos")
    with _errors():
        done = run(folder, out, photos=photos)
    if warning := done.warning():
        typer.echo(f"warning: {warning}", err=True)
    result = {"items": done.items, "catalogue": str(out), "without_photo": done.without_photo}
    _show(result | ({"photos": str(photos)} if photos else {}), as_json, f"{done.items} items in {out}")


@gallery_app.command("copy")
def copy(
    source: Annotated[Path, typer.Argument(help="folder of the gallery, or cluster://NAME", metavar="FROM")],
    target: Annotated[Path, typer.Argument(help="cluster://NAME, or a new folder", metavar="TO")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="drop what was put and deleted in the cluster since its last copy")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy a gallery to a cluster, or back; verified by counts, checksums and the answers of 100 searches.

    What is there already is not sent again. The copy is in service once it is verified, and not before.
    """
    from rich.console import Console

    from threadmatch.indexer.keeping import copy as run
    from threadmatch.service.cli.progress import Shown

    with _errors(), Shown(Console(stderr=True)) as show:
        done = run(source, target, replace=replace, tell=lambda stage, at, total, note="": show(stage, at, total, note))
    _show(
        done,
        as_json,
        "{items} items, {sent} photos sent; generation {generation} is in service".format(**done),
        "checksum {checksum} on both sides; {searches} searches have {agreement:.2%} of their answers in common".format(
            **done
        ),
    )


def _changes(found: dict[str, Any]) -> str:
    if not found["pending"]:
        return "none beside the index"
    return "{pending} beside the index ({put} items put, {deleted} deleted), the oldest of {oldest}".format(**found)


def _show(result: Any, as_json: bool, *lines: str) -> None:
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    for line in lines:
        typer.echo(line)


@contextmanager
def _errors() -> Iterator[None]:
    """Errors meant for the user: one line on stderr, exit 1."""
    from threadmatch.indexer.errors import IndexerError

    try:
        yield
    except (IndexerError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
