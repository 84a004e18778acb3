"""From a catalogue to a new generation of a gallery: resumable, never stopped by a bad image, flat in memory.

    catalogue rows -> [claimed, named] -> loading (threads and processes) -> batches -> model -> one transaction a batch
                                      at most a window of images is anywhere in between

Rows are taken in the catalogue's order whatever order they load in, so that a resumed ingestion equals an uninterrupted
one. What is committed stays done: features belong to the photo's bytes and box, so whatever comes later takes them.

Letters  B images in a batch
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from threadmatch.indexer.catalogue.decoding.pool import Decoded, DecodePool, Same
from threadmatch.indexer.catalogue.fetch import HostList
from threadmatch.indexer.catalogue.garments import WHOLE, CatalogueGarments, given_box, looks
from threadmatch.indexer.catalogue.host_manners import HostHeaders
from threadmatch.indexer.catalogue.rows import Catalogue, CatalogueRow, Reject
from threadmatch.indexer.catalogue.sources import ImageFolder, Loader
from threadmatch.indexer.errors import CatalogueError
from threadmatch.indexer.ingest_options import IngestOptions, IngestResult, Progress
from threadmatch.indexer.predicting import Predictor
from threadmatch.indexer.rejects import RejectFile, prune, refuse_too_many
from threadmatch.indexer.stamps import CatalogueStamp
from threadmatch.indexer.store import generations
from threadmatch.indexer.store.contents import content_of
from threadmatch.indexer.store.manifest import Manifest
from threadmatch.indexer.store.publish import BOX_KEY, Occasion, lost_features, publish, recover, tie
from threadmatch.indexer.store.versions import IN_TABLE, Run, Store, Version
from threadmatch.indexer.store.write_errors import disk_errors
from threadmatch.model.detection import LOOK_PX
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.features import Encoder

logger = logging.getLogger(__name__)

MIN_WINDOW = 32  # images between catalogue and model; more where batches or processes ask for more


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
    """A row on its way: its box in normal form, its source's name, and the load under way."""

    row: CatalogueRow
    box: str
    source: str
    load: Future[Decoded | Same]


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
        self.ready: list[
            tuple[_Waiting, Decoded | int]
        ] = []  # rows of the next commit: an image, or a content's number
        self.window = max(2 * options.batch_size, 4 * options.workers, MIN_WINDOW)

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

    def _encode_all(self, run: Run, images: Path, rejects: RejectFile) -> None:
        options = self.options
        pool = DecodePool(
            options.workers,
            image_px=self.model.image_px,
            framing=self.model.framing,
            limits=options.limits,
            time_limit_s=options.image_limit_s,
        )
        hosts = HostList(options.allow_hosts, private=options.allow_private_network)
        waiting: deque[_Waiting | Reject] = deque()
        self.store.forget_claims()
        headers = HostHeaders(options.headers)
        with Loader(ImageFolder(images), pool, workers=options.workers, hosts=hosts, headers=headers) as loader:
            for row in self.catalogue:
                entry = self._start(row, run, loader)
                if entry is not None:
                    waiting.append(entry)
                while len(waiting) > self.window:
                    self._take(waiting.popleft(), run, rejects)
            while waiting:
                self._take(waiting.popleft(), run, rejects)
            self._commit(run)

    def _start(self, row: CatalogueRow | Reject, run: Run, loader: Loader) -> _Waiting | Reject | None:
        """Begin to load a row's image; None when an earlier attempt at this run has done the row."""
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
            source = f"{IN_TABLE}{row.image}" if row.photo is not None else loader.source_name(row.image)
        except InvalidImageError as error:
            return _reject(row, error.reason, str(error))
        known = self.store.known_sha256(source, box, first=run.first_content)
        load = loader.submit(
            row.image, box=given_box(box), known=known, photo=row.photo, view_px=LOOK_PX if looks(box) else 0
        )
        return _Waiting(row, box, source, load)

    def _take(self, entry: _Waiting | Reject, run: Run, rejects: RejectFile) -> None:
        """Wait for a row's image and put it into the next commit; a full one is committed."""
        if isinstance(entry, _Waiting):
            try:
                loaded = entry.load.result()
            except InvalidImageError as error:
                entry = _reject(entry.row, error.reason, str(error))
            else:
                content = self.store.content_of(loaded.sha256, entry.box, first=run.first_content)
                if content is None and isinstance(loaded, Same):
                    raise AssertionError("a known photo has lost its features while it was read")
                self.ready.append((entry, loaded if content is None else content))  # type: ignore[arg-type]
        if isinstance(entry, Reject):
            rejects.write(entry)
            self._report(done=1, rejected=1)
            return
        encoding = sum(isinstance(what, Decoded) for _, what in self.ready)
        if encoding >= self.options.batch_size or len(self.ready) >= 8 * self.options.batch_size:
            self._commit(run)

    def _commit(self, run: Run) -> None:
        """Encode what needs it and make this batch's rows durable."""
        fresh: dict[tuple[str, str], tuple[_Waiting, Decoded]] = {}
        for entry, what in self.ready:
            if isinstance(what, Decoded):
                fresh.setdefault((what.sha256, entry.box), (entry, what))  # one photo of two rows is encoded once
        numbers = dict(zip(fresh, self._encoded(list(fresh.values())), strict=True))
        used: set[tuple[str, str]] = set()
        skipped = 0
        for entry, what in self.ready:
            if isinstance(what, Decoded):
                key = (what.sha256, entry.box)
                content = numbers[key]
                skipped += key in used
                used.add(key)
            else:
                content = what
                skipped += 1
            row = entry.row
            metadata = row.metadata if self.predictor is None else self.predictor.added(row.metadata, content)
            version = Version(row.id, row.product_id, metadata, entry.source, content)
            if version != self.store.live_version(row.id):
                self.store.put_version(run, version, row=row.number)
        self.store.commit()
        done, self.ready = len(self.ready), []
        self._report(done=done, encoded=len(fresh), skipped=skipped)

    def _encoded(self, images: list[tuple[_Waiting, Decoded]]) -> Iterator[int]:
        """Encode (B) images and add their contents; gives the contents' numbers."""
        if not images:
            return
        given = [(entry.box, decoded) for entry, decoded in images]
        seen = self.garments.framed(given)
        self._report(framed=sum(one is not was for one, (_, was) in zip(seen, given, strict=True)))
        made = self.model.encode(np.stack([decoded.pixels for decoded in seen]))
        for place, (entry, decoded) in enumerate(zip((entry for entry, _ in images), seen, strict=True)):
            content = content_of(
                {name: values[place] for name, values in made.items()},
                self.store.features,
                source=entry.source,
                sha256=decoded.sha256,
                asked_box=entry.box,
                size=(decoded.width, decoded.height),
                box=decoded.box,
                photo=decoded.photo,
            )
            yield self.store.add_content(content)

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
