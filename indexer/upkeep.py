"""Looking after a gallery: list its generations, roll back, verify, compact."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from threadmatch.indexer.edits.folding import editing, fold
from threadmatch.indexer.errors import DamagedItemError, GalleryError
from threadmatch.indexer.index import VectorIndex
from threadmatch.indexer.index_building import verify_by_search
from threadmatch.indexer.reading.overlay import describe_changes
from threadmatch.indexer.store import generations, looks, projected_file, records, side_files
from threadmatch.indexer.store.contents import remove_contents
from threadmatch.indexer.store.database import ALIVE, DATABASE, EDITS_GONE, open_read_only
from threadmatch.indexer.store.generation_index import Rows, check_rows, look_at_missing
from threadmatch.indexer.store.manifest import Manifest
from threadmatch.indexer.store.publish import Occasion, is_fold, publish, recover
from threadmatch.indexer.store.versions import Store
from threadmatch.indexer.store.write_errors import disk_errors

logger = logging.getLogger(__name__)

KEPT_GENERATIONS = 2
MAX_PROBLEMS = 100
REPORT_ROWS = 250  # read at a time: their features are in memory together


def list_generations(folder: Path) -> list[dict[str, Any]]:
    """Each finished generation, oldest first: its manifest's main fields, or why it cannot be read."""
    current = generations.current_name(folder)
    if current is None and not (folder / DATABASE).is_file():
        raise GalleryError(f"{folder} is not a gallery: it has no {DATABASE}; make one with `threadmatch ingest`")
    listed = []
    for name in generations.generation_names(folder):
        entry: dict[str, Any] = {"generation": name, "current": name == current}
        try:
            manifest = generations.read_manifest(folder, name)
        except GalleryError as error:
            listed.append(entry | {"error": str(error)})
            continue
        entry |= {"created": manifest.created, "kind": manifest.kind, "items": manifest.items}
        listed.append(entry | {"rejected": manifest.rejected, "index": manifest.index.type})
    return listed


def rollback(folder: Path, to: str | None = None, *, edits: bool = True) -> Manifest:
    """Put an earlier (or any other) generation in service. Nothing is deleted: rolling forward is the same call.

    A generation is what an ingestion made. Edits made through the service since then stay on top of it, unless they
    are to be taken back too: then a new generation is published that shows exactly what the old one did.

    Args:
        folder: of the gallery.
        to: its name; None for the one before the current one, folds of edits passed over.
        edits: keep the edits made since.

    Returns:
        The manifest of what is in service now.

    Raises:
        GalleryError: there is none, or it is damaged; the current one stays.
    """
    current = generations.current_name(folder)
    if current is None:
        raise GalleryError(f"{folder} has no generation in service")
    with disk_errors(folder), generations.lock(folder):
        names = generations.generation_names(folder)
        earlier = [name for name in names if int(name) < int(current)]
        if to is None:
            earlier = _before_folds(folder, current, earlier)
        if to is None and not earlier:
            raise GalleryError(f"{folder} has no generation before {current}; it has {', '.join(names)}")
        target = earlier[-1] if to is None else f"{int(to):06d}" if to.isdecimal() else to
        if target not in names:
            raise GalleryError(f"{folder} has no generation {target}; it has {', '.join(names)}")
        manifest = generations.read_manifest(folder, target)
        VectorIndex.read(generations.generation_folder(folder, target) / generations.INDEX_FILE, manifest.index)
        store = Store(folder)
        try:
            rows = Rows(store.connection, seq=manifest.seq, spec=manifest.indexed)
        finally:
            store.close()
        if rows.count != manifest.items:
            raise GalleryError(f"generation {target} lacks {manifest.items - rows.count} of its rows in the database")
        if edits:
            generations.set_current(folder, target)
            return manifest
        return _without_edits(folder, manifest)


def _before_folds(folder: Path, current: str, earlier: list[str]) -> list[str]:
    """Generations that one step back may mean: a fold shows the same as the one it was made of."""
    name = current
    while earlier and generations.read_manifest(folder, name).kind == "fold":
        name, earlier = earlier[-1], earlier[:-1]
    return earlier


def _without_edits(folder: Path, target: Manifest) -> Manifest:
    store = Store(folder)
    try:
        unfinished = recover(folder, store)
        if unfinished is not None:
            store.drop_run(unfinished)
        run = store.start_run(kind="rollback", plan="rollback", base=target, fold=False)
        return publish(folder, store, run, Occasion(kind="rollback", catalogue=target.catalogue))
    finally:
        store.close()


@dataclass(slots=True)
class VerifyReport:
    """What a check of everything found; no problems, no news."""

    generation: str
    items: int = 0
    changes: int = 0  # edits that are not folded into the generation yet
    photos_checked: int = 0
    problems: list[str] = field(default_factory=list)
    damaged_items: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For `threadmatch gallery verify --json`."""
        return {"ok": not self.problems, **asdict(self)}


def verify(folder: Path, *, tell: Callable[[int], None] = lambda _: None) -> VerifyReport:
    """Read everything the generation in service stands on and compare it with its checksums.

    Args:
        folder: of the gallery.
        tell: called now and then with the items checked so far.

    Raises:
        GalleryError: there is no gallery, or nothing of it can be read.
    """
    current = generations.current_name(folder)
    connection = open_read_only(folder)
    try:
        if current is None:
            raise GalleryError(f"{folder} has no finished generation yet")
        report = VerifyReport(current)
        for (line,) in connection.execute("PRAGMA quick_check"):
            if line != "ok":
                report.problems.append(f"database: {line}")
        for name in generations.generation_names(folder):
            try:
                generations.read_manifest(folder, name)
            except GalleryError as error:
                report.problems.append(str(error))
        manifest = generations.read_manifest(folder, current)
        _verify_items(connection, manifest, report, tell)
        _verify_edits(connection, manifest, report)
        if bad := looks.damaged(connection):
            report.problems.append(
                f"looks of {len(bad)} photos are damaged (content {bad[0]}); searches compare the photos themselves, "
                "`threadmatch gallery compact` makes them again"
            )
        state = side_files.State(connection, manifest.seq, manifest.features)
        path = generations.generation_folder(folder, current)
        for problem in side_files.problems(path, state) + projected_file.problems(path, manifest.index):
            report.problems.append(f"{problem}; `threadmatch gallery compact` makes them again")
        try:
            _verify_index(folder, connection, manifest)
        except GalleryError as error:
            report.problems.append(str(error))
        except DamagedItemError:
            logger.info("the index is not searched: an embedding to search it with is damaged")  # and reported above
    finally:
        connection.close()
    return report


def _verify_items(connection: Any, manifest: Manifest, report: VerifyReport, tell: Callable[[int], None]) -> None:
    rows = connection.execute(
        f"SELECT i.id, i.content FROM items i WHERE {ALIVE} ORDER BY i.seq",  # noqa: S608
        {"seq": manifest.seq},
    )
    while block := rows.fetchmany(REPORT_ROWS):
        _verify_photos(
            connection, [(f"item {item_id!r}", item_id, content) for item_id, content in block], manifest, report
        )
        report.items += len(block)
        tell(report.items)
    if report.items != manifest.items:
        report.problems.append(f"{report.items} live items in the database, the manifest says {manifest.items}")


def _verify_edits(connection: Any, manifest: Manifest, report: VerifyReport) -> None:
    """The edits on top of the generation: none is missing between it and the first, and each has its features."""
    report.changes = int(describe_changes(connection, manifest)["pending"])
    gone = connection.execute("SELECT value FROM meta WHERE key = ?", (EDITS_GONE,)).fetchone()
    if gone is not None and int(gone[0]) > manifest.edits:
        report.problems.append(f"edits up to {gone[0]} are gone, the generation holds them up to {manifest.edits}")
    if not report.changes:
        return
    rows = connection.execute(
        "SELECT edit, id, content FROM edits WHERE edit > ? AND deleted = 0 ORDER BY edit", (manifest.edits,)
    )
    while block := rows.fetchmany(REPORT_ROWS):
        named = [(f"change {edit} of item {item_id!r}", item_id, content) for edit, item_id, content in block]
        _verify_photos(connection, named, manifest, report)


def _verify_photos(connection: Any, rows: list[tuple[str, str, int]], manifest: Manifest, report: VerifyReport) -> None:
    """What is kept of each photo.

    Args:
        rows: how a report calls it, the item's id, the content.
    """
    contents = {content for _, _, content in rows}
    whole = {spec.name: set(records.read(connection, spec, contents)) for spec in manifest.features}
    whole["photo"] = set(records.read_photos(connection, contents))
    for what, item_id, content in rows:
        bad = [part for part, good in whole.items() if content not in good]
        report.photos_checked += 1
        if bad:
            report.damaged_items.append(item_id)
            if len(report.problems) < MAX_PROBLEMS:
                report.problems.append(f"{what}: {', '.join(bad)} missing or damaged")


def _verify_index(folder: Path, connection: Any, manifest: Manifest) -> None:
    path = generations.generation_folder(folder, manifest.generation) / generations.INDEX_FILE
    index = VectorIndex.read(path, manifest.index)
    rows = Rows(connection, seq=manifest.index.seq, spec=manifest.indexed)
    try:
        check_rows(index, manifest.index, rows.numbers())
    except GalleryError as error:
        raise GalleryError(f"{path}: {error}; run `threadmatch gallery compact`") from error
    verify_by_search(index, rows.sample(256))


def compact(folder: Path, *, keep: int = KEPT_GENERATIONS) -> dict[str, Any]:
    """Fold the edits into a new index, then remove what no kept generation needs; shrink the database file.

    A search still running on a generation taken away fails with a clear error. An unfinished ingestion keeps its rows,
    and edits are then not folded. Edits made meanwhile wait while the file is shrunk.

    Args:
        folder: of the gallery.
        keep: generations to keep, the newest; the one in service always stays, other folds of edits go.

    Returns:
        {"generations", "rows", "contents", "bytes"} that were removed, "generation", the one in service, and
        {"folded", "pending"}: edits taken up, and edits that still wait.
    """
    if keep < 1:
        raise ValueError("at least the generation in service must be kept")
    before = _size(folder)
    with disk_errors(folder):
        folded = _fold_index(folder)
    with disk_errors(folder), generations.lock(folder):
        store = Store(folder)
        try:
            unfinished = recover(folder, store)
            current = generations.current_name(folder)
            if current is None:
                raise GalleryError(f"{folder} has no finished generation to compact")
            names = generations.generation_names(folder)
            ingested = [name for name in names if not is_fold(folder, name)]
            gone = [name for name in names if name != current and name not in ingested[-keep:]]
            for name in gone:
                generations.remove_generation(folder, name)
            kept = [generations.read_manifest(folder, name) for name in names if name not in gone]
            points = sorted({manifest.seq for manifest in kept} | {manifest.index.seq for manifest in kept})
            _mend(store, generations.read_manifest(folder, current), folder)
            rows, contents = _remove_unneeded(
                store, points, open_run=unfinished.run if unfinished else -1, edits=min(m.edits for m in kept)
            )
            pending = describe_changes(store.connection, generations.read_manifest(folder, current))["pending"]
            store.connection.execute("VACUUM")
            store.checkpoint()
        finally:
            store.close()
    freed = before - _size(folder)
    removed = {"generations": len(gone), "rows": rows, "contents": contents, "bytes": freed}
    return {"generation": current, **removed, "folded": folded, "pending": pending}


def _mend(store: Store, manifest: Manifest, folder: Path) -> None:
    """Make again what was derived for the generation in service and is missing or damaged."""
    store.begin()
    if bad := looks.drop_damaged(store.connection):
        logger.warning("looks are damaged and made again", extra={"looks": bad})
    store.commit()
    path = generations.generation_folder(folder, manifest.generation)
    state = side_files.State(store.connection, manifest.seq, manifest.features)
    if not side_files.complete(path, state):
        logger.warning("side files are made again", extra={"generation": manifest.generation})
        side_files.mend(path, state)
    if projected_file.problems(path, manifest.index):
        logger.warning("a side file is made again", extra={"generation": manifest.generation})
        projected_file.mend(path, manifest.index)
    rows = Rows(store.connection, seq=manifest.seq, spec=manifest.indexed)
    look_at_missing(store, rows, path, manifest.index)


def _fold_index(folder: Path) -> int:
    """Where changes are searched beside the index, or the index is damaged, publish a generation with a new one.

    Returns:
        How many edits it took up.
    """
    current = generations.current_name(folder)
    if current is None:
        return 0
    manifest = generations.read_manifest(folder, current)
    path = generations.generation_folder(folder, current) / generations.INDEX_FILE
    try:
        VectorIndex.read(path, manifest.index)
    except GalleryError as error:
        logger.warning("the index is damaged and is built anew", extra={"reason": str(error)})
    else:
        return fold(folder, new_index=manifest.index.seq != manifest.seq, waits=True).folded
    with editing(folder, kind="compact") as (store, run):
        publish(folder, store, run, Occasion(kind="compact", new_index=True, catalogue=manifest.catalogue))
    return run.edits - manifest.edits


def _remove_unneeded(store: Store, points: list[int], *, open_run: int, edits: int) -> tuple[int, int]:
    """Remove versions that hold at none of the points, edits up to a number, and contents that nothing names."""
    database = store.connection
    store.begin()
    database.execute("CREATE TEMP TABLE points (seq INTEGER PRIMARY KEY)")
    database.executemany("INSERT INTO points VALUES (?)", [(point,) for point in points])
    rows = database.execute(
        "DELETE FROM items WHERE run != ? AND (deleted = 1 OR NOT EXISTS"
        " (SELECT 1 FROM points p WHERE p.seq >= items.seq AND p.seq < items.until))",
        (open_run,),
    ).rowcount
    if database.execute("DELETE FROM edits WHERE edit <= ?", (edits,)).rowcount:
        database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (EDITS_GONE, str(edits)))
    unused = "content NOT IN (SELECT content FROM items UNION ALL SELECT content FROM edits)"
    contents = remove_contents(database, unused=unused)
    database.execute("DROP TABLE points")
    store.commit()
    return rows, contents


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_file())
