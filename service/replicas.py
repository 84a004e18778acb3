"""Replicas of the service under Ray Serve: the app as it is, the model in each, found, watched and counted by Serve.

    serve run threadmatch.service.replicas:app gallery=cluster://shop min_replicas=2 max_replicas=8

Arguments are fields of `Scale` and settings of the service by their names; what is not given says the environment of
whoever starts it. The same path and arguments stand in a file of `serve deploy` or in a RayService of Kubernetes
(deploy/kubernetes/rayservice.yaml).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from threadmatch.indexer.cluster.settings import is_cluster
from threadmatch.service.access.wiring import check_reach
from threadmatch.service.app import create_app
from threadmatch.service.config import Settings, load_settings
from threadmatch.service.errors import SettingsError, StoppedError, error_name, error_response, status_of
from threadmatch.service.shared import state_of
from threadmatch.service.watching.logs import set_up_logging

EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - Serve's proxies decide where they listen; taken to be reached by all
BESIDE_SEARCHES: Final = 16
"""Requests beyond searches that a replica takes: it refuses too many searches itself, with 429, and still says more."""
RETRY_AFTER_S: Final = 2


class Scale(BaseModel):
    """How many replicas there are, and what each takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_replicas: int = Field(default=2, ge=1, description="at least so many; with 2 one may die")
    max_replicas: int = Field(default=2, ge=1, description="at most so many; those of min_replicas by default")
    target_requests: float = Field(
        default=4, gt=0, description="requests at a replica, waiting ones included, aimed at"
    )
    cpus: float = Field(default=2, gt=0, description="processors of a replica, and threads of one call of its model")
    gpus: float = Field(default=0, ge=0, description="GPUs of a replica")
    release: str = Field(default="", description="anything; another one replaces all replicas, one after the other")

    @model_validator(mode="before")
    @classmethod
    def _no_fewer_than_the_least(cls, given: Any) -> Any:
        if isinstance(given, dict) and "min_replicas" in given:
            return {"max_replicas": given["min_replicas"], **given}
        return given

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas is {self.max_replicas} and min_replicas {self.min_replicas}")
        return self


class SearchReplica:
    """One replica: the service's own app, and what Serve asks beside it.

    Args:
        settings: of the service.
        release: see `Scale`; it is here so that Serve sees a change.
    """

    def __init__(self, settings: Settings, release: str) -> None:
        del release
        set_up_logging(settings.log_level)
        self._app = create_app(settings)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    async def check_health(self) -> None:
        """Asked by Serve, which replaces a replica that raises: its model fails or stands still.

        A gallery that is missing or damaged is no reason: another replica would find the same.

        Raises:
            StoppedError: says why.
        """
        if reason := await state_of(self._app).model_fails_because():
            raise StoppedError(reason)


def app(arguments: Mapping[str, Any]) -> Any:
    """The application that Serve runs.

    Args:
        arguments: see the head of this module.

    Raises:
        SettingsError: one that is neither, or out of range.
        StartError: no keys, where nobody said that everybody may do everything.
    """
    from ray import serve

    scale, settings = understood(arguments)
    deployment = serve.deployment(
        serve.ingress()(SearchReplica),
        name="search",
        autoscaling_config={
            "min_replicas": scale.min_replicas,
            "max_replicas": scale.max_replicas,
            "target_ongoing_requests": scale.target_requests,
        },
        max_ongoing_requests=settings.max_searches + BESIDE_SEARCHES,
        max_queued_requests=settings.max_searches * scale.max_replicas,
        backpressure_config={"status_code": 503, "retry_after_s": RETRY_AFTER_S},
        graceful_shutdown_timeout_s=settings.drain_s + 5,  # a little more than the app gives to searches in progress
        health_check_timeout_s=60,  # its model may probe for as long
        max_surge_percent=1,  # rounded up: one new replica is ready before an old one drains
        ray_actor_options={"num_cpus": scale.cpus, "num_gpus": scale.gpus},
    )
    return deployment.bind(settings, scale.release)


def understood(arguments: Mapping[str, Any]) -> tuple[Scale, Settings]:
    """Arguments as Serve was given them, checked.

    Raises:
        SettingsError, StartError: as for `app`.
    """
    own = {name: value for name, value in arguments.items() if name in Scale.model_fields}
    try:
        scale = Scale.model_validate(own)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise SettingsError(f"replicas: {faults}") from error
    given = {name: value for name, value in arguments.items() if name not in Scale.model_fields}
    if unknown := sorted(given.keys() - Settings.model_fields.keys()):
        known = ", ".join(Scale.model_fields)
        raise SettingsError(f"{unknown[0]!r} is neither a setting of the service nor one of {known}")
    settings = load_settings(**given)
    if settings.workers > 1:
        raise SettingsError("a replica is one process: leave `workers` out and say min_replicas and max_replicas")
    check_reach(settings.model_copy(update={"host": EVERYWHERE}))
    placed = {
        "gallery": _whole(settings.gallery),
        "galleries": {name: _whole(folder) for name, folder in settings.galleries.items()},
        "keys": settings.keys and settings.keys.resolve(),
        "model_threads": settings.model_threads or max(1, int(scale.cpus)),
    }
    return scale, settings.model_copy(update=placed)


def _whole(gallery: Path) -> Path:
    """A gallery's place, from wherever a replica works: its current folder is another one."""
    return gallery if is_cluster(gallery) else gallery.resolve()


class AnsweredAnyway:
    """Around Serve's proxy: a request whose replica died is answered, with 503 and Retry-After.

    The proxy itself gives up such a request, and its server says 500 then.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = scope["type"] != "http"

        async def noticed(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        await self._app(scope, receive, noticed)
        if not begun:
            died = StoppedError("the replica that had this request is gone; send it again")
            answer = error_response(
                scope,
                status=status_of(died),
                error=error_name(type(died)),
                detail=str(died),
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
            await answer(scope, receive, send)


def around_proxies() -> list[Middleware]:
    """What Serve's proxies put around themselves, where the environment of Ray's nodes names this function as
    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH.
    """
    return [Middleware(AnsweredAnyway)]
