"""From a catalogue to a new generation of a gallery: resumable, never stopped by a bad image, flat in memory.

    catalogue rows -> [claimed, named] -> a `making.Maker`: photos to contents -> one transaction a batch
                                      at most a window of images is anywhere in between

Rows are taken in the catalogue's order whatever order they load in, so that a resumed ingestion equals an uninterrupted
one. What is committed stays done: features belong to the photo's bytes and box, so whatever comes later takes them.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from threadmatch.indexer.catalogue.decoding.pool import Same
from threadmatch.indexer.catalogue.garments import WHOLE, CatalogueGarments
from threadmatch.indexer.catalogue.rows import Catalogue, CatalogueRow, Reject
from threadmatch.indexer.errors import CatalogueError
from threadmatch.indexer.ingest_options import IngestOptions, IngestResult, Progress
from threadmatch.indexer.making import Begun, Fresh, LocalMaker, Maker, Wanted
from threadmatch.indexer.predicting import Predictor
from threadmatch.indexer.rejects import RejectFile, prune, refuse_too_many
from threadmatch.indexer.stamps import CatalogueStamp
from threadmatch.indexer.store import generations
from threadmatch.indexer.store.manifest import Manifest
from threadmatch.indexer.store.publish import BOX_KEY, Occasion, lost_features, publish, recover, tie
from threadmatch.indexer.store.versions import IN_TABLE, Run, Store, Version
from threadmatch.indexer.store.write_errors import disk_errors
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.features import Encoder

logger = logging.getLogger(__name__)


def ingest(
    catalogue: Path,
    gallery: Path,
    *,
    model: Encoder,
    options: IngestOptions | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> IngestResult:
    """Bring a catalogue's rows into a gallery and put the outcome in service.

    Args:
        catalogue: .csv, .jsonl or .parquet file, or a folder of Parquet parts.
        gallery: folder; made when missing.
        model: encodes.
        options: see IngestOptions.
        progress: called from time to time, in this thread.

    Raises:
        CatalogueError: the catalogue cannot be read, or too many of its rows cannot be used.
        PredictionError: values are to be predicted, and the model knows none.
        GalleryModelMismatchError, GalleryBusyError, GalleryError: the gallery cannot take it.
    """
    started = time.monotonic()
    options = options or IngestOptions()
    images = options.images or (catalogue if catalogue.is_dir() else catalogue.parent)
    progress(Progress(stage="reading"))
    source = Catalogue.open(catalogue, options.mapped, options.preset)
    if not images.is_dir():
        raise CatalogueError(f"no folder of images at {images}; say where they are with --images")
    gallery.mkdir(mode=0o700, parents=True, exist_ok=True)  # photos and metadata are nobody else's affair
    with disk_errors(gallery, kept="what was encoded is kept"), generations.lock(gallery):
        store = Store(gallery)
        try:
            return _Ingestion(source, gallery, store, model=model, options=options, progress=progress).run(
                images, started
            )
        finally:
            store.close()


@dataclass(slots=True)
class _Waiting:
    """A row on its way, and its photo."""

    row: CatalogueRow
    wanted: Wanted
    photo: Begun[Fresh]


class _Ingestion:
    def __init__(
        self,
        catalogue: Catalogue,
        folder: Path,
        store: Store,
        *,
        model: Encoder,
        options: IngestOptions,
        progress: Callable[[Progress], None],
    ) -> None:
        self.catalogue, self.folder, self.store = catalogue, folder, store
        self.model, self.options, self.tell = model, options, progress
        self.predictor = Predictor.of(model, store) if options.predict else None
        self.garments = CatalogueGarments(model, options.box)
        self.progress = Progress(stage="encoding", rows=catalogue.rows)
        self.started = time.monotonic()
        self.ready: list[tuple[_Waiting, Fresh | int]] = []  # rows of the next commit: a photo, or a content's number

    def run(self, images: Path, started: float) -> IngestResult:
        self.started, options = started, self.options
        base = generations.current_name(self.folder)
        if base is None and not generations.generation_names(self.folder):
            self.store.start_over(unless_tied_to=self.model.features_fingerprint, even_encoded=self.options.fresh)
        tie(self.store, self.model)
        self.store.set_meta({BOX_KEY: options.box})
        base_manifest = generations.read_manifest(self.folder, base) if base else None
        run = self._begin(base_manifest, images)
        with RejectFile(self.folder, run.run) as rejects:
            self._encode_all(run, images, rejects)
            try:
                refuse_too_many(options.max_rejects, rejects, rows=self.progress.done, catalogue=self.catalogue.path)
            except CatalogueError:
                self.store.drop_run(run)
                raise
            not_pruned = prune(self.store, run, rejects) if options.prune else ""
        self.store.commit()
        manifest = self._finish(run, base_manifest)
        seconds = time.monotonic() - started
        now = self.progress
        return IngestResult(
            items=manifest.items,
            rejected=now.rejected,
            skipped=now.skipped,
            encoded=now.encoded,
            seconds=round(seconds, 3),
            images_per_second=round(now.encoded / seconds, 2) if seconds else 0.0,
            generation=manifest.generation,
            rejects_file=str(rejects.path) if now.rejected else None,
            framed=now.framed,
            warnings=(
                *self.catalogue.warnings,
                *filter(None, [not_pruned]),
                *lost_features(base_manifest, manifest, self.model),
            ),
        )

    def _begin(self, base: Manifest | None, images: Path) -> Run:
        """Continue the unfinished run of this plan, or start a new one."""
        plan = self._plan(images)
        base_name = base.generation if base else ""
        run = recover(self.folder, self.store)
        if run is not None:
            if run.plan == plan and run.base == base_name and not self.options.fresh:
                logger.info("continuing an unfinished ingestion", extra={"run": run.run})
                return run
            logger.info("dropping an unfinished run; encoded photos are kept", extra={"run": run.run})
            self.store.drop_run(run)
        run = self.store.start_run(kind="ingest", plan=plan, base=base, fresh=self.options.fresh)
        self.store.commit()
        return run

    def _plan(self, images: Path) -> str:
        mapped = [f"{name}={source}" for name, source in sorted(self.options.mapped.items())]
        looking = "" if self.options.box == WHOLE else f"box={self.options.box}"
        given = [
            self.options.preset,
            "predict" * self.options.predict,
            looking,
            *(spec.made_by for spec in self.model.features),
        ]
        parts = (
            self.catalogue.sha256,
            str(images.resolve()),
            self.model.features_fingerprint,
            *mapped,
            *filter(None, given),
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _finish(self, run: Run, base: Manifest | None) -> Manifest:
        if base is not None and not self.store.changes(run):
            self.store.finish_run(run, base.generation)  # nothing changed: the generation in service says it all
            return base
        occasion = Occasion(
            kind="ingest",
            rejected=self.progress.rejected,
            catalogue=CatalogueStamp(name=self.catalogue.path.name, sha256=self.catalogue.sha256),
            flat_max=self.options.flat_max,
        )
        return publish(self.folder, self.store, run, occasion, tell=self._tell_publishing)

    def _tell_publishing(self, stage: str, done: int, total: int, note: str = "") -> None:  # noqa: ARG002
        if not total:
            self._report(stage=stage)
            return
        seconds = time.monotonic() - self.started
        self.tell(replace(self.progress, stage=stage, done=done, rows=total, seconds=seconds))

    def _maker(self, images: Path) -> Maker[Any]:
        """Who makes photos into contents: this machine, or the nodes of a cluster."""
        if self.options.ray is None:
            return LocalMaker(images, self.model, self.options, self.store.features)
        from threadmatch.indexer.ray.maker import RayMaker

        return RayMaker(images, self.model, self.options, self.store.features)

    def _encode_all(self, run: Run, images: Path, rejects: RejectFile) -> None:
        waiting: deque[_Waiting | Reject] = deque()
        self.store.forget_claims()
        with self._maker(images) as maker:
            for row in self.catalogue:
                entry = self._start(row, run, maker)
                if entry is not None:
                    waiting.append(entry)
                while len(waiting) > maker.window:
                    self._take(waiting.popleft(), run, rejects, maker)
            while waiting:
                self._take(waiting.popleft(), run, rejects, maker)
            self._commit(run, maker)

    def _start(self, row: CatalogueRow | Reject, run: Run, maker: Maker[Any]) -> _Waiting | Reject | None:
        """Begin with a row's image; None when an earlier attempt at this run has done the row."""
        if isinstance(row, Reject):
            return row
        first = self.store.claim(row.id, row.number)
        if first is not None:
            return _reject(row, "duplicate_id", f"row {first} has the id {row.id!r} already; give this one another")
        if self.store.done_in(run, row.id, row.number):
            self._report(done=1, skipped=1)
            return None
        try:
            box = self.garments.asked_box(row.box, row.metadata)
            source = f"{IN_TABLE}{row.image}" if row.photo is not None else maker.source_name(row.image)
        except InvalidImageError as error:
            return _reject(row, error.reason, str(error))
        known = self.store.known_sha256(source, box, first=run.first_content)
        wanted = Wanted(row.image, source, box, known, row.photo)
        return _Waiting(row, wanted, maker.begin(wanted))

    def _take(self, entry: _Waiting | Reject, run: Run, rejects: RejectFile, maker: Maker[Any]) -> None:
        """Wait for a row's image and put it into the next commit; a full one is committed."""
        if isinstance(entry, _Waiting):
            try:
                loaded = entry.photo.result()
            except InvalidImageError as error:
                entry = _reject(entry.row, error.reason, str(error))
            else:
                content = self.store.content_of(loaded.sha256, entry.wanted.asked_box, first=run.first_content)
                if content is not None:
                    self.ready.append((entry, content))
                elif isinstance(loaded, Same):
                    raise AssertionError("a known photo has lost its features while it was read")
                else:
                    self.ready.append((entry, loaded))
        if isinstance(entry, Reject):
            rejects.write(entry)
            self._report(done=1, rejected=1)
            return
        encoding = sum(not isinstance(what, int) for _, what in self.ready)
        if encoding >= self.options.batch_size or len(self.ready) >= 8 * self.options.batch_size:
            self._commit(run, maker)

    def _commit(self, run: Run, maker: Maker[Any]) -> None:
        """Finish what is new and make this batch's rows durable."""
        fresh: dict[tuple[str, str], tuple[Wanted, Fresh]] = {}
        for entry, what in self.ready:
            if not isinstance(what, int):  # one photo of two rows is encoded once
                fresh.setdefault((what.sha256, entry.wanted.asked_box), (entry.wanted, what))
        made = maker.finish(list(fresh.values()))
        self._report(framed=sum(one.framed for one in made))
        numbers = {key: self.store.add_content(one.content) for key, one in zip(fresh, made, strict=True)}
        used: set[tuple[str, str]] = set()
        skipped = 0
        for entry, what in self.ready:
            if isinstance(what, int):
                content = what
                skipped += 1
            else:
                key = (what.sha256, entry.wanted.asked_box)
                content = numbers[key]
                skipped += key in used
                used.add(key)
            row = entry.row
            metadata = row.metadata if self.predictor is None else self.predictor.added(row.metadata, content)
            version = Version(row.id, row.product_id, metadata, entry.wanted.source, content)
            if version != self.store.live_version(row.id):
                self.store.put_version(run, version, row=row.number)
        self.store.commit()
        done, self.ready = len(self.ready), []
        self._report(done=done, encoded=len(fresh), skipped=skipped)

    def _report(
        self,
        *,
        stage: str = "encoding",
        done: int = 0,
        encoded: int = 0,
        skipped: int = 0,
        rejected: int = 0,
        framed: int = 0,
    ) -> None:
        now = self.progress
        self.progress = replace(
            now,
            stage=stage,
            done=now.done + done,
            encoded=now.encoded + encoded,
            skipped=now.skipped + skipped,
            rejected=now.rejected + rejected,
            framed=now.framed + framed,
            seconds=time.monotonic() - self.started,
        )
        self.tell(self.progress)


def _reject(row: CatalogueRow, reason: str, message: str) -> Reject:
    return Reject(row.number, row.id, row.image, reason, message)
