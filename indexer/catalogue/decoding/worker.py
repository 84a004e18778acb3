"""The program of one decoding process: tasks on standard input, answers on standard output, until the input ends.

It is started as a program of its own, so that it inherits neither torch's threads nor anything of the caller's main
module, and so that it ends by itself when the ingestion is killed. A message is a length (4 bytes, big-endian), that
many bytes of JSON, and the blobs whose sizes the JSON lists.

    task    {"path" or null, "image_px", "framing", "box", "show", "view_px", "known": [sha256, ...], "max_bytes",
             "max_pixels", "sizes": [image]}
            {"path" or null, "long_side_px", "max_bytes", "max_pixels", "sizes": [image]}       the picture as a whole
            {"nothing"}                                  to be answered when the work could begin
    first   {"status": "ready"}
    answer  {"status": "decoded", "sha256", "width", "height", "box", "sizes": [pixels, photo]}
            and with "view_px" "rows", "columns" and the picture as a whole, unless its ground is plain
            {"status": "decoded", "width", "height", "rows", "columns", "sizes": [pixels]}
            {"status": "ready"}
            {"status": "same", "sha256"}                 the bytes are among the known ones: nothing was decoded
            {"status": "rejected", "reason", "message"}
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from threadmatch.model.detection.plain import plain_ground
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.framing import Framing
from threadmatch.model.images import (
    DISPLAY_PHOTO_PX,
    Box,
    DecodedImage,
    ImageLimits,
    decode_image,
    display_photo,
    load_image,
)

MEMORY_LIMIT_BYTES = 4 * 2**30
OOM_SCORE = "500"  # when memory runs out, the kernel ends this process rather than the ingestion


def write_message(stream: BinaryIO, header: dict[str, Any], *blobs: bytes) -> None:
    """Send one message."""
    text = json.dumps(header | {"sizes": [len(blob) for blob in blobs]}).encode()
    stream.write(len(text).to_bytes(4, "big") + text)
    for blob in blobs:
        stream.write(blob)
    stream.flush()


def read_message(stream: BinaryIO) -> tuple[dict[str, Any], list[bytes]]:
    """Receive one message; EOFError when the other side is gone."""
    length = int.from_bytes(_exactly(stream, 4), "big")
    header: dict[str, Any] = json.loads(_exactly(stream, length))
    return header, [_exactly(stream, size) for size in header["sizes"]]


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if data is None or len(data) < size:
        raise EOFError
    return data


def read_image_file(path: str, max_bytes: int) -> bytes:
    """A file's bytes, at most one more than allowed. Never waits on a pipe or device, never follows a last link.

    Raises:
        InvalidImageError: reasons "missing_file", "not_a_file", "unreadable_file".
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        what = "there is no file" if missing else f"cannot open the file ({error.strerror})"
        raise InvalidImageError(f"{what} {path}", reason="missing_file" if missing else "unreadable_file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidImageError(f"{path} is not a file", reason="not_a_file")
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read(max_bytes + 1)
        except OSError as error:
            raise InvalidImageError(f"cannot read {path} ({error.strerror})", reason="unreadable_file") from error


def answer(task: dict[str, Any], blobs: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """Do one task."""
    if task.get("nothing"):
        return {"status": "ready"}, []
    try:
        data = blobs[0] if blobs else read_image_file(task["path"], task["max_bytes"])
        limits = ImageLimits(max_bytes=task["max_bytes"], max_pixels=task["max_pixels"])
        if "long_side_px" in task:
            return _whole(decode_image(data, limits, long_side_hint_px=task["long_side_px"]))
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 in task["known"]:
            return {"status": "same", "sha256": sha256}, []
        box = Box.parse(task["box"]) if task["box"] else None
        finest = max(DISPLAY_PHOTO_PX, task["view_px"])
        framing = Framing.from_dict(task["framing"])
        prepared, decoded = load_image(
            data, image_px=task["image_px"], framing=framing, box=box, limits=limits, long_side_px=finest
        )
        shown = {"all": None, "box": prepared.box}
        photo = display_photo(decoded, shown[task["show"]]) if task["show"] in shown else b""
    except InvalidImageError as error:
        return {"status": "rejected", "reason": error.reason, "message": str(error)}, []
    except Exception as error:  # whatever the bytes provoke is this image's own affair
        message = f"the image cannot be decoded ({type(error).__name__}: {error})"
        return {"status": "rejected", "reason": "undecodable", "message": message}, []
    used = prepared.box
    header = {
        "status": "decoded",
        "sha256": sha256,
        "width": prepared.width,
        "height": prepared.height,
        "box": [used.x0, used.y0, used.x1, used.y1],
    }
    if not task["view_px"] or plain_ground(decoded.pixels):
        return header, [prepared.pixels.tobytes(), photo]
    size, view = _whole(decoded)
    return size | header, [prepared.pixels.tobytes(), photo, *view]


def _whole(decoded: DecodedImage) -> tuple[dict[str, Any], list[bytes]]:
    rows, columns, _ = decoded.pixels.shape
    size = {"width": decoded.width, "height": decoded.height, "rows": rows, "columns": columns}
    return {"status": "decoded", **size}, [decoded.pixels.tobytes()]


def serve(reader: BinaryIO, writer: BinaryIO, do: Callable[..., tuple[dict[str, Any], list[bytes]]] = answer) -> None:
    """Say that the work can begin, then answer tasks until the input ends."""
    write_message(writer, {"status": "ready"})
    while True:
        try:
            task, blobs = read_message(reader)
        except EOFError:
            return
        header, results = do(task, blobs)
        write_message(writer, header, *results)


def main() -> None:
    """Keep standard output for answers alone, then serve. Argument: bytes of address space."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the ingestion decides
    memory_bytes = int(sys.argv[1]) if len(sys.argv) > 1 else MEMORY_LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints does not garble the answers
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
