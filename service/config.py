"""The service's settings: one frozen object, read once from `THREADMATCH_*` variables.

Everything below `service.app` takes arguments; only the start of the process reads the environment.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import annotated_types
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.service.errors import SettingsError
from threadmatch.service.http.forwarded import is_prefix
from threadmatch.service.http.public_address import PublicUrl

PREFIX = "THREADMATCH_"
MIB = 1024 * 1024
STANDARD_OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
DEFAULT_GALLERY = "default"
GALLERY_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def parse_galleries(given: object) -> object:
    """`women=/data/women,men=/data/men` as a dict; a list of such pairs too. What is neither is passed on."""
    parts = given.split(",") if isinstance(given, str) else given
    if not isinstance(parts, list | tuple):
        return given
    galleries: dict[str, str] = {}
    for part in parts:
        name, equals, folder = str(part).strip().partition("=")
        if not name and not equals:
            continue  # an empty setting, or a comma at the end
        if not equals or not folder.strip():
            raise ValueError(f"found {part!r}; expected NAME=FOLDER, such as women=/data/women")
        if name.strip() in galleries:
            raise ValueError(f"{name.strip()!r} is named twice")
        galleries[name.strip()] = folder.strip()
    return galleries


def check_galleries(galleries: dict[str, Path]) -> dict[str, Path]:
    """Refuse names that do not suit addresses and logs, and one folder under two names."""
    for name, folder in galleries.items():
        if not GALLERY_NAME.fullmatch(name) or name == DEFAULT_GALLERY:
            raise ValueError(
                f"{name!r} cannot name a gallery: use a-z, 0-9, - and _, at most 63, and not {DEFAULT_GALLERY!r}, "
                "which is the one of THREADMATCH_GALLERY"
            )
        if "," in str(folder):
            raise ValueError(f"folder {str(folder)!r}: a comma separates galleries, so no folder may have one")
    folders = [folder.absolute() for folder in galleries.values()]
    if len(set(folders)) < len(folders):
        raise ValueError("two names for one folder; give each gallery its own")
    return galleries


NamedFolders = Annotated[
    dict[str, Path],
    NoDecode,  # not JSON
    BeforeValidator(parse_galleries),
    AfterValidator(check_galleries),
    PlainSerializer(lambda value: ",".join(f"{name}={folder}" for name, folder in value.items()), return_type=str),
]


def parse_names(given: object) -> object:
    """`a, b` as ("a", "b")."""
    return tuple(part.strip() for part in given.split(",") if part.strip()) if isinstance(given, str) else given


def check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse what would let everybody in, or never match."""
    for name in names:
        if name in ("*", "null") or name.endswith("/") or name != name.strip():
            raise ValueError(f"{name!r}: name each one; no *, no path and no slash at the end")
    return names


def check_root_path(path: str) -> str:
    """Refuse what is no prefix; a slash at the end is dropped."""
    bare = path.rstrip("/")
    if bare and not is_prefix(bare):
        raise ValueError("expected a path such as /shop, of letters, digits, - . _ ~, and none that is of our own")
    return bare


Names = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(parse_names),
    AfterValidator(check_names),
    PlainSerializer(",".join, return_type=str),
]


class Settings(BaseSettings):
    """Every setting of `threadmatch serve`; `THREADMATCH_` plus the upper-case field name sets it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True)

    gallery: Path = Field(
        description="folder of the gallery to search, made by `threadmatch ingest`, or cluster://NAME"
    )
    galleries: NamedFolders = Field(
        default_factory=dict, description="further galleries by name, of the same model; requests name one as `gallery`"
    )
    keys: Annotated[Path | None, BeforeValidator(lambda given: given or None)] = Field(
        default=None, description="file of API keys, made by `threadmatch keys add`; with one, requests need a key"
    )
    allow_anonymous: bool = Field(
        default=False,
        description="without keys, serve beyond this machine all the same: everybody there may do everything",
    )
    allowed_hosts: Names = Field(
        default=(),
        description="names by which clients call this service, *.example.org for all below; empty: without keys on a "
        "loopback address its names, else any",
    )
    public_url: PublicUrl = Field(
        default="",
        description="address by which clients reach this service, such as https://shop.example/find: addresses of "
        "pictures in answers begin with it; empty: they are paths",
    )
    root_path: Annotated[str, AfterValidator(check_root_path)] = Field(
        default="",
        description="path prefix below which a proxy shows this service, such as /shop; empty: what a trusted hop says "
        "in X-Forwarded-Prefix, or none",
    )
    cors_origins: Names = Field(
        default=(), description="origins of other sites whose pages may ask, such as https://shop.example"
    )
    rate_limit: str = Field(
        default="6000/minute", description="requests a key may make, such as 600/minute; empty: no limit"
    )
    wrong_keys: str = Field(
        default="30/minute",
        description="wrong keys that one address may send before it is told 429 instead of 401; empty: any number",
    )
    session_hours: float = Field(
        default=12.0, ge=0.01, le=8760, description="hours that a browser stays signed in with a key"
    )
    model: str = Field(default="", description="model name or folder; empty takes the one the gallery was made with")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where the model runs")
    engine: Literal["auto", "torch", "openvino", "openvino-bfloat16"] = Field(
        default="auto",
        description="what encodes photos and finds garments; auto takes OpenVINO on the CPU, torch on CUDA and for "
        "networks that OpenVINO cannot run; openvino-bfloat16 encodes in bfloat16, where the processor can, "
        "which is faster, and refuses to start where it cannot",
    )
    cache: Annotated[Path | None, BeforeValidator(lambda given: given or None)] = Field(
        default=None,
        description="folder for what OpenVINO made of the networks, so that the next start is faster; empty: "
        "threadmatch in $XDG_CACHE_HOME, or in ~/.cache; where it cannot be written, each start makes it anew",
    )
    model_threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="threads of one call of the model in each worker; 0: OMP_NUM_THREADS, or one for each core",
    )
    detector: str = Field(
        default=DEFAULT_PARSER,
        description="what finds the garments of a photo: the parser that is shipped, grabcut for what stands out from "
        "the border, or a folder of a detector of your own (detector.json, model.safetensors)",
    )
    host: str = Field(default="127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 for all")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    workers: int = Field(default=1, ge=1, le=64, description="processes; each holds the model once")
    wait_for_gallery: bool = Field(
        default=False,
        description="start without a gallery and wait for it, answering 503, instead of refusing to start",
    )
    gallery_poll_s: float = Field(
        default=1.0, ge=0.05, le=3600, description="seconds between looks for a newer generation of the gallery"
    )
    max_damaged: int = Field(
        default=10,
        ge=0,
        le=10_000,
        description="damaged items of the default gallery that searches may meet before the service stops being ready",
    )
    max_image_bytes: int = Field(default=32 * MIB, ge=1024, le=1024 * MIB, description="bytes of one photo")
    max_image_pixels: int = Field(
        default=64_000_000, ge=10_000, le=1_000_000_000, description="pixels of one photo, before it is unpacked"
    )
    upload_timeout_s: float = Field(
        default=30.0, ge=0.05, le=3600, description="seconds a client may take to send its photo"
    )
    upload_grace_s: float = Field(
        default=5.0, ge=0.05, le=3600, description="seconds before the speed of an upload counts"
    )
    upload_bytes_s: float = Field(
        default=4096.0, ge=1, le=1e9, description="bytes a second that an upload has to bring on average after that"
    )
    max_connections: int = Field(
        default=64, ge=1, le=100_000, description="connections of one address to one worker; beyond, they are closed"
    )
    max_uploads: int = Field(
        default=256,
        ge=1,
        le=100_000,
        description="uploads on their way at a time; a client may have three quarters of what others leave, and beyond "
        "its slowest one is dropped",
    )
    max_upload_mib: int = Field(
        default=512, ge=1, le=1_000_000, description="MiB of uploads held in memory, shared by clients likewise"
    )
    search_timeout_s: float = Field(
        default=60.0, ge=0.05, le=3600, description="seconds a search may take, waiting included"
    )
    max_batch_bytes: int = Field(
        default=128 * MIB, ge=1024, le=4096 * MIB, description="bytes of all photos of one batch together"
    )
    batch_timeout_s: float = Field(
        default=300.0, ge=0.05, le=3600, description="seconds a batch of photos may take, waiting included"
    )
    max_searches: int = Field(
        default=64, ge=1, le=100_000, description="searches in progress, waiting ones included; the next is told 429"
    )
    max_pairs: int = Field(
        default=20_000,
        ge=2_000,
        le=10_000_000,
        description="candidates of all searches in progress together (each holds about 60 KB); beyond: 429",
    )
    encode_batch: int = Field(
        default=8, ge=1, le=4096, description="photos in one call of the model, or of the parser; more suits a GPU"
    )
    rerank_pairs: int = Field(
        default=400,
        ge=1,
        le=1_000_000,
        description="pairs in one call of the model, in pairs of GRNet (more of cheaper matchers); more suits a GPU",
    )
    max_edits: int = Field(
        default=64, ge=1, le=100_000, description="items being put or deleted, waiting ones included; beyond: 429"
    )
    fold_edits: int = Field(
        default=1_000,
        ge=0,
        le=1_000_000,
        description="changed items beside the index from which on they are folded into it, in the background; 0: never",
    )
    fold_after_s: float = Field(
        default=3600.0, ge=1, le=31_536_000, description="seconds after which fewer changed items are folded too"
    )
    max_unfolded: int = Field(
        default=50_000, ge=1, le=10_000_000, description="changed items that may wait for being folded; beyond: 503"
    )
    decode_in: Literal["processes", "threads"] = Field(
        default="processes",
        description="where photos are unpacked: in processes, which are killed where they take too long or too much "
        "memory, or in threads of the service, which take less memory",
    )
    decode_threads: int = Field(
        default=2, ge=1, le=256, description="small photos unpacked at a time, each in its process or thread"
    )
    decode_large: int = Field(default=1, ge=1, le=256, description="large photos unpacked at a time, besides")
    decode_small_mib: int = Field(
        default=128, ge=1, le=100_000, description="MiB that unpacking a small photo may take, by its header"
    )
    decode_mib: int = Field(
        default=1792,
        ge=16,
        le=1_000_000,
        description="MiB that all photos unpacked at a time may take together; small ones have their part of it, the "
        "rest is for large ones, and one that needs more is refused",
    )
    decode_large_waiting: int = Field(
        default=8, ge=1, le=100_000, description="large photos of one client that may wait to be unpacked; beyond: 429"
    )
    decode_timeout_s: float = Field(
        default=20.0, ge=0.1, le=3600, description="seconds that unpacking one photo may take in its process"
    )
    gallery_threads: int = Field(default=4, ge=1, le=256, description="threads that read the gallery")
    warm_share: float = Field(
        default=0.5,
        ge=0,
        le=0.9,
        description="share of the memory that is free at the start, into which the galleries' files are read in the "
        "background, so that the first searches do not wait for the disk; 0: none",
    )
    recent: str = Field(
        default="",
        description="private folder (mode 0700) for the searches of the last minutes, which heat maps and feedback "
        "refer to; empty takes a temporary one that ends with the service",
    )
    recent_minutes: float = Field(
        default=15.0, ge=0, le=1440, description="minutes a search is remembered; 0 keeps none, not even in memory"
    )
    recent_mib: int = Field(
        default=128, ge=1, le=100_000, description="MiB of recent searches (about 120 KB each); the oldest go first"
    )
    feedback: str = Field(
        default="", description="folder that feedback on matches is kept in, private to the service; empty takes none"
    )
    feedback_mib: int = Field(
        default=1024, ge=1, le=100_000, description="MiB of feedback (about 30 KB a search); beyond, none is taken"
    )
    stall_s: float = Field(
        default=120.0, ge=1, le=86_400, description="seconds one call of the model may take before readiness says so"
    )
    drain_s: int = Field(
        default=30, ge=0, le=3600, description="seconds that searches in progress get to finish on SIGTERM"
    )
    otlp_endpoint: str = Field(
        default="",
        description="OTLP/HTTP address of an OpenTelemetry collector, such as http://collector:4318, that gets traces; "
        f"empty: {STANDARD_OTLP_ENDPOINT}, or no traces",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level logged")

    @model_validator(mode="after")
    def check_decoding(self) -> Self:
        """Leave something for large photos."""
        small_mib = self.decode_threads * self.decode_small_mib
        if self.decode_mib <= small_mib:
            raise ValueError(
                f"{variable('decode_mib')}={self.decode_mib} leaves nothing for large photos: small ones "
                f"may take {self.decode_threads} x {self.decode_small_mib} MiB; raise it, or lower those"
            )
        return self


def load_settings(environ: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """Read the settings from the environment; keyword arguments that are not None win over it.

    Args:
        environ: the environment to check for unknown names; the process's own by default.
        given: fields set on the command line.

    Raises:
        SettingsError: an unknown THREADMATCH_* variable (the nearest known one is named) or a value out of range.
    """
    check_unknown(os.environ if environ is None else environ)
    if variable("otlp_endpoint") not in os.environ:
        given.setdefault("otlp_endpoint", os.environ.get(STANDARD_OTLP_ENDPOINT))
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("\n".join(_fault(fault) for fault in error.errors())) from error


def check_unknown(names: Iterable[str]) -> None:
    """Refuse variables with our prefix that no field reads: pydantic-settings passes over them in silence.

    Raises:
        SettingsError: naming the nearest known variable.
    """
    known = [variable(name) for name in Settings.model_fields]
    for name in names:
        if not name.upper().startswith(PREFIX) or name.upper() in known:
            continue
        nearest = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)[0]
        raise SettingsError(f"{name} is not a setting; the nearest is {nearest}. `threadmatch serve --help` lists all.")


def variable(field: str) -> str:
    """`max_searches` -> `THREADMATCH_MAX_SEARCHES`."""
    return PREFIX + field.upper()


def value_range(field: FieldInfo) -> str:
    """The range of a field in words, read off its type and bounds."""
    if get_origin(field.annotation) is Literal:
        return " | ".join(map(str, get_args(field.annotation)))
    if field.annotation is bool:
        return "true | false"
    low = next((rule.ge for rule in field.metadata if isinstance(rule, annotated_types.Ge)), None)
    high = next((rule.le for rule in field.metadata if isinstance(rule, annotated_types.Le)), None)
    if low is not None and high is not None:
        return f"{low} to {high}"
    if field.annotation == dict[str, Path]:
        return "NAME=FOLDER,NAME=FOLDER"
    if field.annotation == tuple[str, ...]:
        return "NAME,NAME"
    return "path" if field.annotation in (Path, Path | None) else "text"


def _fault(fault: Any) -> str:
    name = str(fault["loc"][0]) if fault["loc"] else ""
    field = Settings.model_fields.get(name)
    if field is None:
        return f"settings: {fault['msg']}"
    if fault["type"] == "missing":
        return f"{variable(name)} (or --{name.replace('_', '-')}) is not set: {field.description}"
    return f"{variable(name)}={fault['input']!s:.80}: {fault['msg']}; possible: {value_range(field)}"
