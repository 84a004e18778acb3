"""Calls of a store of the Redis protocol: one server, or the masters of a cluster. The only `import redis`.

Reads go to masters in pipelines. A call that a failing master, or one that is loading or handing over, does not answer
is tried again until `retry_s` is over: every write here may be made twice.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from threadmatch.indexer.cluster.calls import Calls, Kind, Unheard
from threadmatch.indexer.cluster.settings import StoreSettings, secret
from threadmatch.indexer.errors import GalleryError, StoreUnavailableError

try:
    import redis as _redis
    import redis.backoff as _redis_backoff
    import redis.cluster as _redis_cluster
    import redis.retry as _redis_retry
except ImportError as error:  # pragma: no cover - the test environment has it
    raise GalleryError("a cluster's gallery needs more: pip install 'threadmatch[cluster]'") from error

redis: Any = _redis
redis_backoff: Any = _redis_backoff
redis_cluster: Any = _redis_cluster
redis_retry: Any = _redis_retry

Command: TypeAlias = tuple[str | bytes | int, ...]
"""Name, key and arguments."""
PIPELINE: Final = 1_000
"""Commands that are sent at a time."""
_MANY_KEYS: Final = 100_000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_TO_TRY_AGAIN: Final[tuple[type[Exception], ...]] = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.ClusterError,
    redis.exceptions.MovedError,
    redis.exceptions.RedisClusterException,
    OSError,
)
SWAP: Final = """
local old = redis.call('GET', KEYS[1])
local number = old and tonumber(string.sub(old, 1, 19)) or -1
if ARGV[2] ~= '' and number ~= tonumber(ARGV[2]) and number ~= tonumber(string.sub(ARGV[1], 1, 19)) then
  return {0, old or ''}
end
if number > tonumber(string.sub(ARGV[1], 1, 19)) then return {0, old} end
redis.call('SET', KEYS[1], ARGV[1])
return {1, old or ''}
"""
"""Puts a record in place of one with a lower number (its first 19 characters), in one step; gives the one before.
ARGV[2], where it is not empty: only in place of this number, -1 for none."""
RAISE: Final = """
if ARGV[2] > (redis.call('HGET', KEYS[1], ARGV[1]) or '') then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
"""
"""Sets a hash's field where the text is beyond the one before. (Lua's numbers would round Milvus's times.)"""


class RecordStore:
    """The store of one cluster. Thread-safe.

    Args:
        settings: where it is.

    Fields:
        calls: hears of each call.

    Raises:
        GalleryError: a secret that cannot be read.
        StoreUnavailableError: nobody answers.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._password = secret(settings.password_file) or None
        self._client: Any = None
        self.calls: Calls = Unheard()
        self.ask([("PING", "")] if settings.cluster else [("PING",)])

    def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def one(self, *command: str | bytes | int) -> Any:
        """The answer to one command."""
        return self.ask([command])[0]

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Answers to commands, in their order; sent together, each to the master of its key.

        Raises:
            StoreUnavailableError: no answer within `retry_s`.
        """
        answers: list[Any] = []
        for start in range(0, len(commands), PIPELINE):
            some = commands[start : start + PIPELINE]
            answers += self._trying(lambda some=some: self._pipelined(some), "read")
        return answers

    def write(self, *command: str | bytes | int, key: str | None = None) -> Any:
        """A write of one key; it is on `wait_replicas` replicas, too, when this returns.

        Args:
            command: name, key and arguments.
            key: where it is not the second word, as in EVAL.

        Raises:
            StoreUnavailableError: not known to be written; it may be.
        """
        place = str(command[1]) if key is None else key
        return self._trying(lambda: self._written(command, place), "write")

    def swap(self, key: str, record: bytes, *, expected: str = "") -> tuple[bool, bytes]:
        """`SWAP`: whether the record is there now, and the one before, b"" for none."""
        done, before = self.write("EVAL", SWAP, 1, key, record, expected, key=key)
        return bool(done), bytes(before)

    def settle(self, key: str) -> None:
        """Wait until `wait_replicas` replicas of every master have all that was written so far.

        A master sends its replicas one stream, so what is written now comes after everything before it.

        Args:
            key: begins the names of what is written for that, one for each master, for a minute.
        """
        if not self._settings.wait_replicas:
            return
        if not self._settings.cluster:
            self.write("SET", key, 1, "EX", 60)
            return
        client = self._connected()
        left = {node.name for node in client.get_primaries()}
        for number in itertools.count():
            if not left:
                return
            named = f"{key}:{number}"
            node = client.get_node_from_key(named)
            if node is not None and node.name in left:
                self.write("SET", named, 1, "EX", 60)
                left.discard(node.name)
            if number > _MANY_KEYS:
                raise StoreUnavailableError(f"no key is of the masters {', '.join(sorted(left))}")

    def keys(self, pattern: str) -> Iterator[str]:
        """Keys of a pattern; each that stays meanwhile at least once.

        Raises:
            StoreUnavailableError: a master went away meanwhile.
        """
        try:
            for key in self._connected().scan_iter(match=pattern, count=PIPELINE):
                yield key.decode()
        except redis.RedisError as error:  # where it was, nobody knows: whoever asked begins anew
            raise StoreUnavailableError(f"the store stopped listing its keys: {error}") from error

    def _pipelined(self, commands: Sequence[Command]) -> list[Any]:
        client = self._connected()
        if len(commands) == 1 and not self._settings.cluster:
            return [client.execute_command(*commands[0])]
        if commands[0][0] == "PING":
            return [client.ping()]
        with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute()
        return answers

    def _written(self, command: Command, key: str) -> Any:
        """On one connection: WAIT counts what this connection wrote."""
        client, wanted = self._connected(), self._settings.wait_replicas
        if not wanted:
            return client.execute_command(*command)
        if self._settings.cluster:
            node = client.get_node_from_key(key)
            if node is None:
                raise redis.exceptions.ClusterDownError(f"no master has the slot of {key}")
            client = client.get_redis_connection(node)
        with client.client() as connection:
            answer = connection.execute_command(*command)
            reached = connection.execute_command("WAIT", wanted, int(1000 * self._settings.wait_s))
        if reached < wanted:
            raise redis.TimeoutError(f"{reached} replicas have the write, {wanted} should")
        return answer

    def _connected(self) -> Any:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _connect(self) -> Any:
        settings = self._settings
        how = {
            "password": self._password,
            "socket_timeout": settings.timeout_s,
            "socket_connect_timeout": min(2.0, settings.timeout_s),
            "retry": redis_retry.Retry(
                redis_backoff.NoBackoff(), 0
            ),  # whoever asks does it, and looks for masters anew
        }
        places = [(host, int(port)) for host, _, port in (node.rpartition(":") for node in settings.nodes)]
        if settings.cluster:
            nodes = [redis_cluster.ClusterNode(host, port) for host, port in places]
            return redis_cluster.RedisCluster(startup_nodes=nodes, require_full_coverage=False, **how)
        host, port = places[0]
        return redis.Redis(host=host, port=port, **how)

    def _trying(self, call: Any, kind: Kind) -> Any:
        started, pause_s = time.monotonic(), _FIRST_PAUSE_S
        while True:
            try:
                answer = call()
                self.calls.ended("store", kind, time.monotonic() - started, "answered")
                return answer
            except _TO_TRY_AGAIN as error:
                if time.monotonic() + pause_s > started + self._settings.retry_s:
                    self.calls.ended("store", kind, time.monotonic() - started, "unavailable")
                    raise StoreUnavailableError(
                        f"the store at {', '.join(self._settings.nodes)} does not answer: {error}"
                    ) from error
                self.calls.retried("store")
                self._look_again()
            except redis.RedisError as error:
                self.calls.ended("store", kind, time.monotonic() - started, "refused")
                raise GalleryError(f"the store at {', '.join(self._settings.nodes)} refused a call: {error}") from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _look_again(self) -> None:
        """Ask the nodes that are left who is master of what."""
        client = self._client
        if client is not None and self._settings.cluster:
            with contextlib.suppress(*_TO_TRY_AGAIN):  # the next try says what is wrong
                client.nodes_manager.initialize()
