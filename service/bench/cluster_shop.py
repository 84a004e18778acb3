"""The gallery of the failure run: photos by `threadmatch ingest`, made-up items beside them, moved there and back."""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.data.photo_folder import photos_below
from threadmatch.model.inference import Model, load_model
from threadmatch.service.bench.cluster_site import Site
from threadmatch.service.bench.engines import Server
from threadmatch.service.bench.ledger import Truth
from threadmatch.service.bench.load import truths_of
from threadmatch.service.bench.scale_gallery import add_items
from threadmatch.service.demo.shipped import CATALOGUE_FILE, write_shop
from threadmatch.service.galleries.local import LocalGallery
from threadmatch.service.process.commands import CommandError, print_command, program, run_command

NAME: Final = "shop"
ASKED_FOR: Final = 12
"""Photos of the catalogue that clients search for."""
LOOKED_AT: Final = 3
"""Photos that are searched for in every way before the load begins."""


@dataclass(slots=True)
class Shop:
    """A gallery of a cluster, and what photos of it must find.

    Fields:
        name: of the gallery.
        place: its address.
        staging: the folder that it was ingested in.
        model: that encoded it.
        count: photos ingested.
        photos: some of them, JPEG.
        truths: what each must find; scores are those of the chain's first matcher, which compares no items.
    """

    name: str
    place: str
    staging: Path
    model: Model
    count: int
    photos: list[bytes] = field(default_factory=list)
    truths: list[Truth] = field(default_factory=list)

    @classmethod
    def ingest(cls, on: Site, work: Path, photos: Path | None, *, most: int, model: str) -> Shop:
        """Ingest photos as a user does.

        Args:
            on: where to.
            work: folder for a catalogue of them.
            photos: a folder of photos; None for those that ship.
            most: how many at most.
            model: name or folder; "" for the shipped one.

        Raises:
            CommandError: ingestion failed.
        """
        catalogue, files = _catalogue(work / "photos", photos, most)
        place = on.place(NAME)
        named = ["--model", model] if model else []
        images = str(photos or catalogue.parent)
        run_command(["ingest", str(catalogue), "--images", images, "--gallery", place, *named])
        gallery = Gallery.open(work / "staging" / NAME)
        loaded = load_model(model or gallery.manifest.model.name, device="cpu")
        shop = cls(NAME, place, work / "staging" / NAME, loaded, gallery.item_count)
        shop.photos = [file.read_bytes() for file in files[:: max(1, len(files) // ASKED_FOR)][:ASKED_FOR]]
        shop.truths = truths_of(gallery, loaded, shop.photos, matcher=loaded.chain[0].matcher)
        gallery.close()
        return shop

    def add(self, items: int) -> None:
        """Add made-up items: to the folder it was ingested in, which is copied again. Photos are not sent again."""
        add_items(self.staging, 0, items, lambda *_: None, pictures=False, model=self.model)
        copied = _json_of("gallery", "copy", str(self.staging), self.place)
        if copied["sent"] != items:
            raise CommandError(f"{copied['sent']} photos were sent, {items} are new")

    def search(self, replicas: Sequence[Server]) -> None:
        """Search by the request that `curl -F image=@photo.jpg ADDRESS/search` makes, and in Python; held together.

        Raises:
            CommandError: the answers differ.
        """
        with LocalGallery(self.place, model=self.model) as opened:  # what `threadmatch.open` is
            for photo in self.photos[:LOOKED_AT]:
                expected = [match.id for match in opened.search(photo, top_k=5).matches]
                for replica in replicas:
                    answer = httpx.post(
                        f"http://{replica.place}/search", files={"image": ("photo.jpg", photo)}, data={"top_k": "5"},
                        timeout=120, trust_env=False,
                    )  # fmt: skip
                    found = [match["id"] for match in answer.raise_for_status().json()["matches"]]
                    if found != expected:
                        raise CommandError(f"{replica.place} found {found}, in Python it was {expected}")
        print(
            f"$ curl -F image=@photo.jpg -F top_k=5 http://{replicas[0].place}/search\n{', '.join(found)}", flush=True
        )


def move_there_and_back(on: Site, shop: Shop, work: Path) -> dict[str, Any]:
    """Clear away what nobody names, copy the gallery to a folder, the folder to another gallery; held together.

    Raises:
        CommandError: a copy failed.
    """
    cleared = _json_of("gallery", "compact", shop.place, "--keep", "1")
    started = time.monotonic()
    out = _json_of("gallery", "copy", shop.place, str(work / "moved"))
    back = _json_of("gallery", "copy", str(work / "moved"), on.place(f"{shop.name}_2"))
    same = (out["items"], out["checksum"]) == (back["items"], back["checksum"])
    return {
        "items": back["items"],
        "same": same,
        "agreement": min(out["agreement"], back["agreement"]),
        "sent": back["sent"],
        "seconds": round(time.monotonic() - started, 1),
        "cleared": cleared["contents"],
    }


def _json_of(*arguments: str) -> dict[str, Any]:
    """What a command of ours prints as JSON."""
    print_command(arguments)
    done = subprocess.run([*program(), *arguments, "--json"], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise CommandError(f"`threadmatch {shlex.join(arguments)}`: {done.stderr.strip()[-500:]}")
    print(done.stdout.strip(), flush=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _catalogue(work: Path, photos: Path | None, most: int) -> tuple[Path, list[Path]]:
    """A catalogue of photos, and their files."""
    if photos is None:
        write_shop(work)
        with (work / CATALOGUE_FILE).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[:most]
        files = [work / row["image"] for row in rows]
    else:
        files = sorted(photos_below(photos))[:most]
        rows = [{"id": f"photo-{number}", "image": str(file.relative_to(photos))} for number, file in enumerate(files)]
    if not files:
        raise CommandError(f"{photos} has no photos")
    work.mkdir(parents=True, exist_ok=True)
    path = work / "ingested.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path, files
