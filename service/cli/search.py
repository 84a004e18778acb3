"""`threadmatch search`: one photo against one gallery, without a service; the same code that serves HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from threadmatch.service.http.schemas.matches import SearchAnswer
    from threadmatch.service.http.schemas.search import SearchOptions


def search(
    photo: Annotated[Path, typer.Argument(help="The photo to search; - reads it from stdin.")],
    *,
    gallery: Annotated[
        Path, typer.Option(help="Folder of the gallery, made by `threadmatch ingest`, or cluster://NAME.")
    ],
    top_k: Annotated[int, typer.Option(help="Matches to show.")] = 10,
    candidates: Annotated[int, typer.Option(help="Items the first stage hands to the reranker.")] = 200,
    box: Annotated[str | None, typer.Option(help="Part of the photo: x0,y0,x1,y1 in pixels, upright.")] = None,
    filter_: Annotated[str | None, typer.Option("--filter", help="Condition on metadata columns.")] = None,
    group_by: Annotated[str, typer.Option(help="item, or product: each product once.")] = "item",
    collapse_duplicates: Annotated[
        bool, typer.Option(help="Show items with the same photo once, and name the others.")
    ] = True,
    min_probability: Annotated[float | None, typer.Option(help="Leave out less probable matches, 0 to 1.")] = None,
    matcher: Annotated[
        str | None,
        typer.Option(
            help="What has the last word, such as dense; global keeps stage one's order. Else the model's whole chain."
        ),
    ] = None,
    attributes: Annotated[
        str | None, typer.Option(help="Attributes to share, with weights: neckline:1,sleeves:0.5.")
    ] = None,
    rerank: Annotated[bool | None, typer.Option("--rerank/--no-rerank", help="Second stage on or off.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Name the regions that weigh most.")] = False,
    model: Annotated[str, typer.Option(help="Model name or folder; else the gallery's own.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON, as POST /v1/search gives it.")] = False,
) -> None:
    """Find the garment of a photo in a gallery."""
    options = _options(
        top_k=top_k,
        candidates=candidates,
        box=box,
        filter=filter_,
        group_by=group_by,
        collapse_duplicates=collapse_duplicates,
        min_probability=min_probability,
        matcher=matcher,
        attributes=attributes,
        rerank=rerank,
        explain=explain,
    )
    try:
        data = sys.stdin.buffer.read() if str(photo) == "-" else photo.read_bytes()
    except OSError as error:
        _fail(f"cannot read {photo}: {error.strerror}")
    typer.echo(f"threadmatch search: opening {gallery} and its model", err=True)
    answer = _answer(data, options, gallery=gallery, model=model, device=device)
    if as_json:
        print(answer.model_dump_json(indent=2))
    else:
        _show(answer)


def _options(**given: Any) -> SearchOptions:
    from pydantic import ValidationError

    from threadmatch.service.errors import InvalidFieldError
    from threadmatch.service.http.schemas.search import SearchOptions
    from threadmatch.service.http.search_form import check_together

    try:
        return check_together(
            SearchOptions.model_validate({name: value for name, value in given.items() if value is not None})
        )
    except ValidationError as error:
        faults = "; ".join(f"--{str(fault['loc'][0]).replace('_', '-')}: {fault['msg']}" for fault in error.errors())
        _fail(faults, code=2)
    except InvalidFieldError as error:
        _fail(str(error), code=2)


def _answer(data: bytes, options: SearchOptions, *, gallery: Path, model: str, device: str) -> SearchAnswer:
    from threadmatch.indexer.errors import FilterError, IndexerError
    from threadmatch.model.errors import ModelError
    from threadmatch.service.errors import ServiceError
    from threadmatch.service.galleries.local import LocalGallery

    try:
        with LocalGallery(gallery, model=model, device=device) as opened:
            return opened.answer(data, options)
    except FilterError as error:
        _fail(f"--filter: {error}", code=2)
    except (ServiceError, ModelError, IndexerError) as error:
        _fail(str(error))


def _show(answer: SearchAnswer) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("rank", "was", "score", "prob.", "distance"):
        table.add_column(heading, justify="right")
    table.add_column("id", overflow="fold")
    table.add_column("name", overflow="fold")
    for match in answer.matches:
        table.add_row(
            str(match.rank),
            str(match.stage1_rank),
            "-" if match.score is None else f"{match.score:.2f}",
            "-" if match.probability is None else f"{match.probability:.0%}",
            f"{match.distance:.3f}",
            match.id,
            str(match.metadata.get("name") or match.metadata.get("title") or match.product_id or ""),
        )
        for own in match.attributes or []:
            seems = (
                f", seems {own.predicted_item.value} ({own.predicted_item.probability:.0%})"
                if own.predicted_item
                else ""
            )
            table.add_row("", "", f"{own.similarity:.2f}", "", "", f"  {own.name}{seems}", "")
        for view in match.views or []:
            score, chance = (
                "-" if one is None else form.format(one)
                for one, form in ((view.score, "{:.2f}"), (view.probability, "{:.0%}"))
            )
            table.add_row("", str(view.stage1_rank), score, chance, f"{view.distance:.3f}", f"  view: {view.id}", "")
        for same in match.duplicates:
            table.add_row("", str(same.stage1_rank), "", "", "", f"  same photo: {same.id}", same.product_id or "")
        for pair in match.evidence or []:
            where = ", ".join(f"{edge:.0f}" for edge in pair.item_box)
            table.add_row("", "", "", f"{pair.weight:.0%}", "", f"  {pair.scale} region at {where}", "")
    console = Console(markup=False, highlight=False)
    if not answer.matches:
        console.print("No match: nothing in the gallery meets these conditions.")
    elif answer.notes:
        console.print("Probably no match: " + "; ".join(note.detail for note in answer.notes))
    elif answer.no_match:
        console.print("Probably no match: even the best is less probable than the model asks for. The closest:")
    if answer.matches:
        console.print(table)
    times = ", ".join(f"{stage} {milliseconds:.1f} ms" for stage, milliseconds in answer.timings_ms.items())
    gallery = answer.gallery
    console.print(f"{answer.candidates} candidates of {gallery.items} items, generation {gallery.generation}; {times}")


def _fail(message: str, code: int = 1) -> NoReturn:
    typer.echo(f"threadmatch search: {message}", err=True)
    raise typer.Exit(code)
