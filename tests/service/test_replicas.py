"""The service under Ray Serve: what is understood and answered without Ray, and real replicas that die under load."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from tests.support.patience import PATIENCE_S, wait_until
from tests.support.shop import Shop, photo
from threadmatch.indexer.upkeep import verify
from threadmatch.service.bench.engines import Server, free_port, running
from threadmatch.service.bench.ray_nodes import address, head, lacking_ray, processes
from threadmatch.service.errors import SettingsError, StartError
from threadmatch.service.galleries.filling import ingest
from threadmatch.service.replicas import AnsweredAnyway, app, understood

ANYBODY = {"allow_anonymous": "true"}
CLIENTS = 6
FIELDS = {
    "top_k": "1",
    "rerank": "false",
}  # a photo of the gallery is nearest to itself


def test_arguments_are_those_of_replicas_and_settings_of_the_service(tmp_path: Path) -> None:
    scale, settings = understood({**ANYBODY, "gallery": "shop", "min_replicas": "3", "cpus": "4", "drain_s": "7"})
    assert (scale.min_replicas, scale.max_replicas, scale.cpus) == (3, 3, 4.0)
    assert settings.gallery == Path("shop").resolve()  # replicas have another current folder
    assert (settings.drain_s, settings.model_threads) == (7, 4)
    place = f"cluster://shop@{tmp_path}/cluster.toml"
    assert understood({**ANYBODY, "gallery": place})[1].gallery == Path(place)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"galery": "shop"}, "'galery' is neither a setting of the service nor one of min_replicas"),
        ({"gallery": "shop", "min_replicas": "0"}, "min_replicas: Input should be greater"),
        ({"gallery": "shop", "min_replicas": "4", "max_replicas": "2"}, "max_replicas is 2 and min_replicas 4"),
        ({"gallery": "shop", "workers": "2"}, "a replica is one process"),
    ],
)
def test_an_argument_that_cannot_be_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        understood({**ANYBODY, **given})


def test_replicas_without_keys_are_refused_as_a_service_for_everybody_is() -> None:
    with pytest.raises(StartError, match="without API keys"):
        understood({"gallery": "shop"})


async def test_a_request_whose_replica_died_is_answered_503() -> None:
    async def gives_up(scope: Scope, receive: Receive, send: Send) -> None:
        """As Serve's proxy does when a replica dies."""

    async with httpx.AsyncClient(transport=httpx.ASGITransport(AnsweredAnyway(gives_up)), base_url="http://it") as it:
        answer = await it.get("/v1/gallery")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert answer.json()["error"] == "Stopped"


class Load:
    """Clients that search until they are told to stop; a 503 that says Retry-After is tried again.

    Args:
        url: of the service.
    """

    def __init__(self, url: str) -> None:
        self.statuses: Counter[int] = Counter()
        self.faults: list[str] = []
        self._url, self._stop = url, threading.Event()
        self._threads = [threading.Thread(target=self._search, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def answered(self, more: int) -> None:
        """Wait for so many further answers."""
        enough = self.statuses[200] + more
        wait_until(lambda: self.statuses[200] >= enough or bool(self.faults), "searches are answered")

    def _search(self, number: int) -> None:
        with httpx.Client(timeout=PATIENCE_S) as client:
            while not self._stop.is_set():
                answer = client.post(f"{self._url}/v1/search", files={"image": photo(number)}, data=FIELDS)
                self.statuses[answer.status_code] += 1
                right = answer.status_code == 200 and answer.json()["matches"][0]["id"] == f"item-{number}"
                if not right and not (answer.status_code == 503 and "Retry-After" in answer.headers):
                    self.faults.append(f"{answer.status_code} {answer.text[:200]}")


@pytest.fixture(scope="module")
def ray_head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if reason := lacking_ray():
        pytest.skip(reason)
    server = head(tmp_path_factory.mktemp("ray"), cpus=6)
    with running(server):
        yield server


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    ingest(shop.write(shop.rows(30)), shop.gallery, images=shop.images, model=tiny_model_folder, device="cpu")
    assert verify(shop.gallery).problems == []
    return shop.gallery


@contextmanager
def served(ray_head: Server, arguments: dict[str, Any]) -> Iterator[str]:
    """The service's address while replicas run."""
    import ray
    from ray import serve

    port = free_port()
    ray.init(address=address(ray_head), log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(app({**ANYBODY, "cpus": 1, **arguments}), route_prefix="/")
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def replicas(ray_head: Server) -> list[int]:
    """Processes of replicas."""
    return processes(ray_head, "ServeReplica:default:search")


@pytest.mark.ray
def test_dead_and_replaced_replicas_leave_no_search_unanswered(
    ray_head: Server, gallery: Path, tiny_model_folder: Path
) -> None:
    arguments = {"gallery": str(gallery), "model": str(tiny_model_folder), "min_replicas": 2}
    with served(ray_head, arguments) as url:
        from ray import serve

        assert httpx.get(f"{url}/health/ready", timeout=PATIENCE_S).status_code == 200
        with Load(url) as load:
            load.answered(50)
            before = replicas(ray_head)
            assert len(before) == 2
            os.kill(before[0], signal.SIGKILL)
            load.answered(50)
            wait_until(lambda: len(set(replicas(ray_head)) - set(before)) == 1, "the killed one is replaced")
            load.answered(50)
            assert load.faults == []
            print("killed:", dict(load.statuses))
            refused, old = load.statuses[503], replicas(ray_head)
            serve.run(app({**ANYBODY, "cpus": 1, **arguments, "release": "2"}), route_prefix="/")
            wait_until(lambda: not set(replicas(ray_head)) & set(old), "all replicas are replaced")
            load.answered(50)
            print("updated:", dict(load.statuses))
        assert load.faults == []
        assert load.statuses[503] == refused  # a rolling update refuses nobody


@pytest.mark.ray
def test_a_queue_brings_a_further_replica(ray_head: Server, gallery: Path, tiny_model_folder: Path) -> None:
    arguments = {"gallery": str(gallery), "model": str(tiny_model_folder), "min_replicas": 1, "max_replicas": 2}
    with served(ray_head, {**arguments, "target_requests": 1}) as url, Load(url) as load:
        wait_until(lambda: len(replicas(ray_head)) == 2, "a second replica")
        load.answered(20)
        assert load.faults == []
