"""Photos of strangers unpacked: in processes that can be killed, small ones before large ones, each client in its turn.

What a photo needs is read off its header first (`model.headers`). Small ones have a lane of their own, so that none
waits for a large one; large ones have few places, and a budget of memory. Who only cuts or shrinks what is unpacked
already does not come here.

Threads instead of processes keep all of this but the last line of defence: there a decoder that hangs holds its place
until it ends, one that crashes takes the service with it, and some (libtiff's, WebP's) hold Python's lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from threadmatch.indexer.catalogue.decoding.pool import Decoded, DecodePool, Same, Task
from threadmatch.model.decoding import sniff_format
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.framing import SQUASHED, Framing
from threadmatch.model.headers.looking import look
from threadmatch.model.images import (
    Box,
    DecodedImage,
    ImageLimits,
    PreparedImage,
    decode_image,
    display_photo,
    load_image,
)
from threadmatch.service.queues.lanes import FairLane, Stop

MIB: Final = 2**20
PROCESS_BYTES: Final = 1024 * MIB
"""Address space of a decoding process beside the pixels: Python, numpy, the file itself."""

Show = Literal["all", "box", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRules:
    """How photos are unpacked.

    Args:
        where: in processes, or in threads of this one.
        small: places of the lane for small photos.
        large: places of the lane for others.
        small_bytes: what a photo may need at its peak and still be small.
        large_bytes: what the large ones under way may need together; one that needs more is refused.
        large_waiting: large ones of one client that may wait.
        timeout_s: of one photo, after which its process is killed.
    """

    where: Literal["processes", "threads"] = "threads"
    small: int = 2
    large: int = 1
    small_bytes: int = 128 * MIB
    large_bytes: int = 1536 * MIB
    large_waiting: int = 8
    timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What the model sees of a photo, and a JPEG to show; empty where none was asked for."""

    prepared: PreparedImage
    shown: bytes


class Decoding:
    """Unpacks photos for everybody.

    Args:
        image_px: side S of the model's input.
        limits: on one photo.
        rules: places, memory and time.
        framing: how a photo becomes the model's square.
    """

    def __init__(self, image_px: int, limits: ImageLimits, rules: DecodeRules, *, framing: Framing = SQUASHED) -> None:
        self._image_px, self._framing, self._limits, self._rules = image_px, framing, limits, rules
        self.small = FairLane("decode", rules.small, what="photos")
        self.large = FairLane(
            "decode-large", rules.large, budget=rules.large_bytes, most_waiting=rules.large_waiting, what="large photos"
        )
        self._pools: dict[FairLane, DecodePool] = {}
        if rules.where == "processes":
            self._pools = {
                self.small: self._pool(rules.small, 2 * rules.small_bytes, nice=0),
                self.large: self._pool(rules.large, rules.large_bytes, nice=5),
            }

    @property
    def lanes(self) -> tuple[FairLane, FairLane]:
        """Both lanes, for metrics."""
        return (self.small, self.large)

    async def photo(self, data: bytes, *, box: str | None = None, show: Show = "nothing") -> Unpacked:
        """A photo as the model sees it.

        Args:
            data: the file.
            box: the garment, "x0,y0,x1,y1" in pixels of the upright photo; None takes all of it.
            show: what the JPEG to show has: the whole photo, the box, or nothing.

        Raises:
            InvalidImageError: see `model.images.load_image`; also reasons too_slow and decoder_crashed.
            OverloadedError: this client has too many large ones waiting; StoppedError.
        """

        def work(stop: Stop) -> Unpacked:
            pool = self._pools.get(lane)
            if pool is None:
                return self._here(data, box, show)
            task = Task(data=data, box=box or "", show=show)
            return self._unpacked(pool.decode(task, stop=stop if lane is self.large else None))

        lane, cost = self._lane(data)
        return await lane.run(work, cost=cost)

    async def picture(self, data: bytes, *, long_side_px: int) -> DecodedImage:
        """A photo to look at as a whole, its longer side no finer than asked.

        Raises:
            InvalidImageError, OverloadedError, StoppedError: as for `photo`.
        """

        def work(stop: Stop) -> DecodedImage:
            pool = self._pools.get(lane)
            if pool is None:
                return decode_image(data, self._limits, long_side_hint_px=long_side_px)
            return pool.picture(data, long_side_px=long_side_px, stop=stop if lane is self.large else None)

        lane, cost = self._lane(data)
        return await lane.run(work, cost=cost)

    def warm(self) -> None:
        """Start the processes, so that no client waits for that; blocks until they have begun."""
        for pool in self._pools.values():
            pool.warm()

    def close(self) -> None:
        """End lanes and processes."""
        for lane in self.lanes:
            lane.close()
        for pool in self._pools.values():
            pool.close()

    def _lane(self, data: bytes) -> tuple[FairLane, int]:
        """Where a photo is unpacked, and what that needs.

        Raises:
            InvalidImageError: what the first bytes and the header show already.
        """
        if not data or len(data) > self._limits.max_bytes:
            return self.small, 0  # the decoder's own words for it
        header = look(data, sniff_format(data))
        if header is None:
            return self.large, self._rules.small_bytes  # mostly damaged; if not, it is well placed there
        if header.width * header.height > self._limits.max_pixels or header.needs_bytes <= self._rules.small_bytes:
            return self.small, header.needs_bytes
        if header.needs_bytes > self._rules.large_bytes:
            raise InvalidImageError(
                f"the image has {header.width} x {header.height} pixels and takes {header.needs_bytes // MIB} MiB to "
                f"decode, at most {self._rules.large_bytes // MIB} are there; send a smaller one, or a JPEG",
                reason="too_many_pixels",
            )
        return self.large, header.needs_bytes

    def _pool(self, processes: int, memory_bytes: int, *, nice: int) -> DecodePool:
        return DecodePool(
            processes,
            image_px=self._image_px,
            framing=self._framing,
            limits=self._limits,
            time_limit_s=self._rules.timeout_s,
            memory_bytes=PROCESS_BYTES + memory_bytes,
            nice=nice,
        )

    def _here(self, data: bytes, box: str | None, show: Show) -> Unpacked:
        asked = Box.parse(box) if box is not None else None
        prepared, decoded = load_image(
            data, image_px=self._image_px, framing=self._framing, box=asked, limits=self._limits
        )
        shown = {"nothing": None, "all": None, "box": prepared.box}[show]
        return Unpacked(prepared, b"" if show == "nothing" else display_photo(decoded, shown))

    def _unpacked(self, decoded: Decoded | Same) -> Unpacked:
        assert isinstance(decoded, Decoded), "no digests were given"
        prepared = PreparedImage(decoded.pixels, decoded.width, decoded.height, Box(*decoded.box), self._framing)
        return Unpacked(prepared, decoded.photo)
