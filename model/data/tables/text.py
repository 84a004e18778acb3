"""Text files of unknown encoding, plain or packed with gzip, as lines in which nothing is lost without a word."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

from threadmatch.model.data.tables.encodings import NAMES, candidates, encoding_of
from threadmatch.model.data.tables.notes import Notes
from threadmatch.model.errors import DataError

MAX_LINE_CHARACTERS: Final = 16 * 2**20
CHUNK: Final = 1 << 20
SAMPLE_BYTES: Final = 1 << 16
UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
GZIP_MARK: Final = b"\x1f\x8b"
_ESCAPED: Final = re.compile("[\udc80-\udcff]")
_BEYOND_ASCII: Final = re.compile("[^\x00-\x7f\udc80-\udcff]")


def open_bytes(path: Path) -> BinaryIO:
    """A file's bytes, unpacked where they are packed with gzip, whatever the file is called."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP_MARK
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


class TextFile:
    """Lines of a text file: UTF-16 by its mark, else UTF-8, in which single wrong bytes are read as Windows-1252.

    Where most of what is not ASCII is no UTF-8, the whole file is read in another encoding (`tables.encodings`).

    Args:
        path: read once here, for its encoding.

    Raises:
        DataError: the file cannot be read, is no text, or of an encoding that cannot be told.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path), open_bytes(path) as file:
            start = file.read(64)
        if not start.strip():
            raise DataError(f"{path} is empty; its first line names the columns")
        if start.startswith(b"PAR1") or (b"\x00" in start and not start.startswith(UTF_16_MARKS)):
            raise DataError(f"{path} holds binary data, expected text; a Parquet file's name ends in .parquet")
        self.encoding = "utf-16" if start.startswith(UTF_16_MARKS) else self._eight_bit()

    def lines(self, notes: Notes) -> Iterator[tuple[int, str]]:
        """Every line, with its end and its number from 1; bytes that had to be guessed are noted."""
        if (name := NAMES.get(self.encoding)) is not None:
            notes.add(f"not UTF-8, read as {name}; save the file as UTF-8 if letters come out wrong")
        number = 0
        with reading(self.path), open_bytes(self.path) as raw:
            errors = "surrogateescape" if self.encoding == "utf-8-sig" else "replace"
            with io.TextIOWrapper(raw, encoding=self.encoding, errors=errors, newline="") as text:
                while line := text.readline(MAX_LINE_CHARACTERS):
                    number += 1
                    if len(line) == MAX_LINE_CHARACTERS:
                        raise DataError(f"{self.path}, line {number} has more than {MAX_LINE_CHARACTERS:,} characters")
                    if errors == "surrogateescape" and not line.isascii() and _ESCAPED.search(line):
                        notes.add("bytes that are not UTF-8 are read as Windows-1252", f"line {number}")
                        line = _ESCAPED.sub(_as_windows, line)
                    elif errors == "replace" and "\ufffd" in line:
                        notes.add("bytes that are no text are shown as \ufffd", f"line {number}")
                    yield number, line

    def _eight_bit(self) -> str:
        right = wrong = 0
        with (
            reading(self.path),
            open_bytes(self.path) as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
        ):
            while chunk := text.read(CHUNK):
                if not chunk.isascii():
                    right += len(_BEYOND_ASCII.findall(chunk))
                    wrong += len(_ESCAPED.findall(chunk))
        if wrong <= right:
            return "utf-8-sig"
        sample = self._sample()
        if (found := encoding_of(sample)) is not None:
            return found
        possible = ", ".join(NAMES[name] for name in candidates(sample)) or "none of those that are known here"
        raise DataError(
            f"{self.path} is not UTF-8, and which encoding it has cannot be told for certain (possible: {possible}); "
            f"save it as UTF-8, in a spreadsheet or by `iconv -f ENCODING -t utf-8 {self.path.name}`"
        )

    def _sample(self) -> bytes:
        """Lines with bytes beyond ASCII, as many as tell the encoding."""
        found: list[bytes] = []
        size = 0
        with reading(self.path), open_bytes(self.path) as raw:
            while size < SAMPLE_BYTES and (line := raw.readline(SAMPLE_BYTES)):
                if not line.isascii():
                    found.append(line)
                    size += len(line)
        return b"".join(found)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a DataError that names the file."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is cut off or no gzip file ({error}); fetch or pack it again") from error
    except UnicodeError as error:
        raise DataError(f"{path} is not the text its first bytes promise: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _as_windows(found: re.Match[str]) -> str:
    return bytes([ord(found.group()) - 0xDC00]).decode("cp1252", "replace")
