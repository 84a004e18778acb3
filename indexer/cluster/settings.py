"""Where a cluster's engines are: the address `cluster://NAME` of a gallery, and the settings file it is read with."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from threadmatch.indexer.errors import GalleryError

SCHEME: Final = "cluster:"
SETTINGS_FILES: Final = ("cluster.toml", "deploy/cluster.toml", "/etc/threadmatch/cluster.toml")
"""Looked for in this order where an address names no file."""
_ADDRESS: Final = re.compile(r"cluster:/{1,2}(?P<name>[^/@]*)(@(?P<file>.+))?", re.DOTALL)
_NAME: Final = re.compile(r"[a-z](?:_?[a-z0-9])*", re.ASCII)
_MAX_NAME: Final = 40


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MilvusSettings(_Part):
    """The shortlist's engine."""

    uri: str = Field(default="http://127.0.0.1:19530", description="of Milvus, or of its proxies' balancer")
    token_file: Path | None = Field(default=None, description="file that holds user:password or a token")
    timeout_s: float = Field(default=30, gt=0, description="for one call, the stall while a query node is replaced too")
    shards: int = Field(default=1, ge=1, le=64, description="write channels of a new generation's collection")
    replicas: int = Field(default=1, ge=1, le=16, description="copies in memory, each on query nodes of its own")
    graph_links: int = Field(default=16, ge=4, le=64, description="M of the HNSW graph")
    build_width: int = Field(default=200, ge=8, le=512, description="efConstruction of the HNSW graph")
    search_width: int = Field(default=400, ge=16, le=16_384, description="ef of a search, twice its results at least")


class StoreSettings(_Part):
    """The store of the Redis protocol: items, features, photos."""

    nodes: tuple[str, ...] = Field(default=("127.0.0.1:6379",), min_length=1, description="host:port, one or several")
    cluster: bool = Field(default=False, description="whether they speak the Redis Cluster protocol")
    password_file: Path | None = Field(default=None, description="file that holds the password")
    wait_replicas: int = Field(
        default=0, ge=0, le=5, description="replicas that must have a write before it is answered"
    )
    wait_s: float = Field(default=2, gt=0, description="how long a write waits for them, before it is tried again")
    timeout_s: float = Field(default=5, gt=0, description="for one call; more than wait_s")
    retry_s: float = Field(default=15, ge=0, description="how long a call is tried again while a master fails over")

    @field_validator("nodes")
    @classmethod
    def _host_and_port(cls, nodes: tuple[str, ...]) -> tuple[str, ...]:
        for node in nodes:
            host, _, port = node.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
                raise ValueError(f"{node!r} is no host:port")
        return nodes

    @model_validator(mode="after")
    def _waits_within_a_call(self) -> Self:
        if self.wait_s >= self.timeout_s:
            raise ValueError(
                f"wait_s is {self.wait_s:g} and timeout_s {self.timeout_s:g}: a call would end before its wait"
            )
        return self


class ClusterSettings(_Part):
    """A settings file (TOML), as `deploy/cluster.toml`."""

    prefix: str = Field(default="threadmatch", pattern=r"^[a-z][a-z0-9]{0,30}$", description="begins all names there")
    staging: Path | None = Field(
        default=None, description="folder of the local galleries that `ingest` fills before it copies them there"
    )
    milvus: MilvusSettings = MilvusSettings()
    store: StoreSettings = StoreSettings()

    @classmethod
    def read(cls, path: Path) -> ClusterSettings:
        """Read a settings file.

        Raises:
            GalleryError: it is missing, or says what cannot be.
        """
        try:
            with path.open("rb") as file:
                return cls.model_validate(tomllib.load(file))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise GalleryError(f"cannot read the cluster's settings in {path}: {error}") from error
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise GalleryError(f"{path}: {faults}") from error


@dataclass(frozen=True, slots=True)
class Address:
    """A gallery of a cluster.

    Fields:
        name: of the gallery there.
        settings: of the cluster.
    """

    name: str
    settings: ClusterSettings

    def __str__(self) -> str:
        return f"cluster://{self.name}"


def is_cluster(place: str | os.PathLike[str]) -> bool:
    """Whether a gallery's place is an address of a cluster, not a folder. A Path keeps one slash of its two."""
    return os.fspath(place).startswith(SCHEME + "/")


def read_address(place: str | os.PathLike[str]) -> Address:
    """Read `cluster://NAME` or `cluster://NAME@FILE`, and the settings file.

    Raises:
        GalleryError: it is no such address, or the settings cannot be read.
    """
    text = os.fspath(place)
    found = _ADDRESS.fullmatch(text)
    if found is None or not _NAME.fullmatch(found["name"]) or len(found["name"]) > _MAX_NAME:
        raise GalleryError(
            f"{text!r} is no gallery of a cluster: write cluster://NAME or cluster://NAME@SETTINGS.toml, with a name "
            f"of a-z, 0-9 and single _, at most {_MAX_NAME}"
        )
    return Address(found["name"], ClusterSettings.read(_settings_file(found["file"])))


def secret(file: Path | None) -> str:
    """What a secret's file holds, "" without one; GalleryError where it cannot be read."""
    if file is None:
        return ""
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise GalleryError(f"cannot read the secret in {file}: {error}") from error


def _settings_file(named: str | None) -> Path:
    if named:
        return Path(named)
    for candidate in map(Path, SETTINGS_FILES):
        if candidate.is_file():
            return candidate
    raise GalleryError(
        f"no settings of a cluster: {' or '.join(SETTINGS_FILES)} is not here; write cluster://NAME@SETTINGS.toml"
    )
