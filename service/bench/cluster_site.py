"""A whole cluster on three hosts: a Redis Cluster, a Milvus, and a replica of the service on each. Things die in it.

    host-1   a master, two replicas of others', serve
    host-2   the same
    host-3   the same, and Milvus as one process

What is killed is started again, as a supervisor does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from threadmatch.service.bench.engines import (
    Server,
    free_port,
    is_whole,
    masters_of,
    milvus,
    redis_cluster,
    settings_file,
)
from threadmatch.service.bench.hosts import Host, out_of_reach
from threadmatch.service.config import variable
from threadmatch.service.process.commands import program

HOSTS: Final = 3
PROGRAMS: Final = Path.home() / ".cache" / "threadmatch" / "milvus"
STORE: Final[dict[str, object]] = {"cluster": True, "wait_replicas": 1, "wait_s": 1, "timeout_s": 2, "retry_s": 15}
"""Settings of the store: a write is answered when a replica has it, too."""
SERVICE: Final = {"allow_anonymous": "true", "model_threads": "1", "log_level": "warning"}
"""Settings of the replicas; nobody else reaches these hosts."""


@dataclass(slots=True)
class Site:
    """What runs where.

    Fields:
        hosts: all of them.
        stores: nodes of the Redis Cluster.
        vectors: Milvus.
        settings: the file that says where the engines are.
        replicas: of the service, once `serve` has started them.
    """

    hosts: Sequence[Host]
    stores: list[Server]
    vectors: Server
    settings: Path
    replicas: list[Server]

    def place(self, name: str) -> str:
        """The address of a gallery here."""
        return f"cluster://{name}@{self.settings}"

    def serve(self, name: str, work: Path, model: str) -> None:
        """Start a replica of the service on each host, and wait for all.

        Args:
            name: of the gallery.
            work: folder for their logs.
            model: name or folder; "" for the gallery's own.
        """
        self.replicas += [_replica(host, self.place(name), work / f"serve-{host.name}", model) for host in self.hosts]
        for replica in self.replicas:
            replica.begin()
        for replica in self.replicas:
            replica.wait()

    def on(self, host: Host) -> list[Server]:
        """What runs on a host."""
        return [server for server in (*self.stores, self.vectors, *self.replicas) if server.host == host]

    def kill(self) -> None:
        """Everything, with -9."""
        for server in (*self.stores, self.vectors, *self.replicas):
            server.kill()

    def missing(self) -> list[str]:
        """What does not run or answer, or has not found the others."""
        parts = {"Milvus": [self.vectors], "serve": self.replicas}
        away = [f"{name} at {one.place}" for name, servers in parts.items() for one in servers if not one.is_up()]
        return away if is_whole(self.stores) else [*away, "the store: a node, or its replicas"]

    def is_whole(self) -> bool:
        """Whether everything runs and has found the others."""
        return not self.missing()

    def kill_a_master(self, down_s: float) -> None:
        """Kill a master of the store with -9; started again after that long."""
        victim = masters_of(self.stores)[0]
        victim.kill()
        time.sleep(down_s)
        victim.start()

    def kill_a_replica(self, down_s: float) -> None:
        """Kill a replica of the service with -9, and all its processes; started again after that long."""
        victim = self.replicas[1]
        victim.kill()
        time.sleep(down_s)
        victim.start()

    def kill_milvus(self) -> None:
        """Kill Milvus with -9; started again at once."""
        self.vectors.kill()
        self.vectors.start()

    def kill_a_host(self, down_s: float) -> None:
        """A host without power: nobody reaches it from one moment to the next, and nothing on it goes on."""
        victim = self.hosts[0]
        servers = self.on(victim)
        with out_of_reach(victim, _groups(servers)):
            for server in servers:
                server.kill()
            time.sleep(down_s)
        for server in servers:
            server.begin()
        for server in servers:
            server.wait()

    def cut_a_host(self, cut_s: float) -> None:
        """A host whose cable is pulled for that long; everything on it runs on."""
        victim = self.hosts[1]
        with out_of_reach(victim, _groups(self.on(victim))):
            time.sleep(cut_s)


@contextmanager
def site(on: Sequence[Host], work: Path) -> Iterator[Site]:
    """The engines of a cluster on hosts, running; at the end all is killed.

    Args:
        on: HOSTS of them.
        work: folder for what they keep.
    """
    with ExitStack() as ending:
        stores = redis_cluster(work / "redis", replicas=HOSTS - 1, on=on)
        made = Site(on, stores, milvus(work / "milvus", PROGRAMS, host=on[-1]), work / "cluster.toml", [])
        ending.callback(made.kill)
        made.vectors.start()
        settings_file(work, stores=stores, milvus=made.vectors, **STORE)
        yield made


def _replica(host: Host, place: str, folder: Path, model: str) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [*program(), "serve", "--gallery", place, "--host", host.address, "--port", str(port)]
    command += ["--model", model] if model else []
    ready = f"http://{host.address}:{port}/health/ready"

    def answers() -> bool:
        try:
            return httpx.get(ready, timeout=5, trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    settings = SERVICE | {"allowed_hosts": host.address}  # 127.0.0.2 is not among the names that loopback has
    return Server(command, folder, port, answers, {variable(name): value for name, value in settings.items()}, host)


def _groups(servers: Sequence[Server]) -> list[int]:
    return [server.process.pid for server in servers if server.process is not None]
