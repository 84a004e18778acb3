"""The file of API keys. It holds hashes, never keys; a key is shown once, when it is made.

A key is `tm_<id>_<secret>`: eight hexadecimal digits that name it in lists and logs, and 256 random bits. Hashing such
a secret once with SHA-256 is enough: slow hashes such as scrypt protect secrets that can be guessed, and nobody guesses
256 bits, while each request would pay for the slowness. What is compared are the hashes, in constant time.

The file is replaced as a whole (written aside, renamed) and read again when it has changed, so that a new or revoked
key counts at the next request.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from threadmatch.service.access.roles import EVERY_GALLERY, Access, Role
from threadmatch.service.errors import KeysError

KEY = re.compile(r"tm_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
MAX_FILE_BYTES = 16 * 1024 * 1024
_NEVER = hashlib.sha256(b"").hexdigest()  # compared with where there is no such key, to take the same time


class StoredKey(BaseModel):
    """One key as the file has it.

    Args:
        id: its public part.
        sha256: of the whole key.
        session_sha256: of what a browser's cookie carries instead of the key (`service.access.sessions`).
        galleries: names, or "*" alone for every gallery.
        created, revoked: UTC; a key that is not revoked has None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern="^[0-9a-f]{8}$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    session_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    role: Role
    galleries: tuple[str, ...]
    label: str = ""
    created: datetime
    revoked: datetime | None = None

    @property
    def access(self) -> Access:
        """What it lets its holder do."""
        galleries = None if EVERY_GALLERY in self.galleries else frozenset(self.galleries)
        return Access(role=self.role, galleries=galleries, key_id=self.id)


class KeyFile(BaseModel):
    """The whole file. `session_secret` signs how long a browser's cookie is good for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    session_secret: str = Field(default_factory=lambda: secrets.token_hex(32), pattern="^[0-9a-f]{64}$")
    keys: tuple[StoredKey, ...] = ()


def add_key(path: Path, *, role: Role, galleries: tuple[str, ...], label: str = "") -> tuple[str, StoredKey]:
    """Make a key and write its hash.

    Returns:
        The key, to be shown once, and what is stored of it.

    Raises:
        KeysError: the file cannot be read or written.
    """
    with _changing(path) as change:
        taken = {stored.id for stored in change.file.keys}
        identity = next(made for made in iter(lambda: secrets.token_hex(4), None) if made not in taken)
        key = f"tm_{identity}_{secrets.token_urlsafe(32)}"
        stored = StoredKey(
            id=identity,
            sha256=digest(key),
            session_sha256=digest(session_token(key)),
            role=role,
            galleries=galleries,
            label=label,
            created=datetime.now(UTC).replace(microsecond=0),
        )
        change.file = change.file.model_copy(update={"keys": (*change.file.keys, stored)})
    return key, stored


def revoke_key(path: Path, identity: str) -> StoredKey:
    """Mark a key as revoked; it stays in the list. Repeating it changes nothing.

    Raises:
        KeysError: no such key, or the file cannot be read or written.
    """
    with _changing(path) as change:
        found = next((stored for stored in change.file.keys if stored.id == identity), None)
        if found is None:
            known = ", ".join(stored.id for stored in change.file.keys) or "none"
            raise KeysError(f"{path} has no key {identity!r}; it has: {known}")
        if found.revoked is None:
            found = found.model_copy(update={"revoked": datetime.now(UTC).replace(microsecond=0)})
            kept = tuple(found if stored.id == identity else stored for stored in change.file.keys)
            change.file = change.file.model_copy(update={"keys": kept})
    return found


def read_keys(path: Path) -> KeyFile:
    """The file's content; an empty one where there is no file.

    Raises:
        KeysError: it cannot be read, is damaged, or others may change it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return KeyFile()
    except OSError as error:
        raise KeysError(f"the key file {path} cannot be read: {error.strerror or error}") from error
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise KeysError(f"others may write to the key file {path} and give themselves keys; chmod 600 {path}")
    if len(data) > MAX_FILE_BYTES:
        raise KeysError(f"the key file {path} is larger than {MAX_FILE_BYTES} bytes; is it the right file?")
    try:
        return KeyFile.model_validate_json(data)
    except ValidationError as error:
        raise KeysError(
            f"the key file {path} is not one that this version reads ({error.error_count()} faults, the first: "
            f"{error.errors()[0]['msg']}); restore it, or name another one"
        ) from error


class KeyRing:
    """The keys as a running service sees them: read again whenever the file has changed.

    Args:
        path: of the file, which may come later.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self._file = KeyFile()
        self._by_id: dict[str, StoredKey] = {}
        self._failure: KeysError | None = None

    def current(self) -> KeyFile:
        """The file as it is now.

        Raises:
            KeysError: it is damaged or cannot be read: then nobody is let in, since nobody can tell who was revoked.
        """
        try:
            status = self.path.stat()
            # the last two: a change of who may write, which leaves the content's time as it was
            seen: tuple[int, ...] = (
                status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns, status.st_mode
            )  # fmt: skip
        except FileNotFoundError:
            seen = ()
        except OSError as error:
            raise KeysError(f"the key file {self.path} cannot be read: {error.strerror or error}") from error
        if seen != self._seen:
            self._failure = None
            try:
                self._file = read_keys(self.path)
            except KeysError as error:
                self._file, self._failure = KeyFile(), error
            self._by_id = {stored.id: stored for stored in self._file.keys}
            self._seen = seen
        if self._failure is not None:
            raise self._failure
        return self._file

    def find(self, key: str) -> StoredKey | None:
        """The key that a client sent, if it is known and not revoked."""
        return self._checked(key_id(key), digest(key), "sha256")

    def find_session(self, identity: str, token: str) -> StoredKey | None:
        """The key that a browser's session was begun with, if it is not revoked."""
        return self._checked(identity, digest(token), "session_sha256")

    def _checked(self, identity: str, sha256: str, against: Literal["sha256", "session_sha256"]) -> StoredKey | None:
        self.current()
        stored = self._by_id.get(identity)
        right = hmac.compare_digest(sha256, _NEVER if stored is None else getattr(stored, against))
        return stored if stored is not None and right and stored.revoked is None else None


def digest(secret: str) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def key_id(key: str) -> str:
    """The public part of a key; "" for what has not the form of one."""
    found = KEY.fullmatch(key)
    return found[1] if found else ""


def session_token(key: str) -> str:
    """What a browser's cookie carries instead of the key: made from it, and of no use as one."""
    return hmac.new(key.encode("utf-8", "surrogatepass"), b"threadmatch browser session", hashlib.sha256).hexdigest()


class _Change:
    def __init__(self, file: KeyFile) -> None:
        self.file = file


@contextmanager
def _changing(path: Path) -> Iterator[_Change]:
    """Read the file, let the block change it, write it: one process at a time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _private(path.with_name(f"{path.name}.lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            change = _Change(read_keys(path))
            before = change.file
            yield change
            if change.file is not before:
                _replace(path, change.file.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise KeysError(f"the key file {path} cannot be written: {error.strerror or error}") from error


@contextmanager
def _private(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    descriptor, staging = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600 from the start
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(staging).replace(path)
    except BaseException:
        Path(staging).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
