"""Calls of Milvus: a collection a generation, an alias for the one in service. The only `import pymilvus`.

A search sees every write whose time it is handed. Such a time is Milvus's own, given with each write; so nobody waits
but those who ask right after a write, and no clocks are compared.

Letters  E embedding size
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.cluster.calls import Calls, Kind, Outcome, Unheard
from threadmatch.indexer.cluster.filter_milvus import DOCUMENT, ITEM
from threadmatch.indexer.cluster.settings import MilvusSettings, secret
from threadmatch.indexer.errors import GalleryError, StoreUnavailableError

try:
    import grpc as _grpc
    import pymilvus as _pymilvus
except ImportError as error:  # pragma: no cover - the test environment has it
    raise GalleryError("a cluster's gallery needs more: pip install 'threadmatch[cluster]'") from error

grpc: Any = _grpc
pymilvus: Any = _pymilvus
T = TypeVar("T")

MAX_FOUND: Final = 16_384
"""Results of one search, by Milvus's own bound."""
MAX_ID_BYTES: Final = 2_048
_NO_ALIAS: Final = 1600
_REFUSED: Final = (100, 1100, _NO_ALIAS)
"""Milvus's codes of what stays wrong however often it is tried: no such collection, an invalid value, no such alias."""
_REFUSED_SIGNS: Final = ("cannot parse expression", "is invalid")
"""The same, of what it gives its general code."""


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row to insert: its number, the item's id, what filters ask of it, and its vector, (E,) unit length."""

    row: int
    id: str
    document: dict[str, Any]
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row of a search: its number, the item's id, and the cosine."""

    row: int
    id: str
    similarity: float


class VectorEngine:
    """Milvus. Thread-safe.

    Args:
        settings: where it is.

    Fields:
        calls: hears of each call.

    Raises:
        StoreUnavailableError: it does not answer.
        GalleryError: it refuses, or a secret cannot be read.
    """

    def __init__(self, settings: MilvusSettings) -> None:
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # what it logs with a trace of its own is raised, too
        self._settings = settings
        self.calls: Calls = Unheard()
        how = {"uri": settings.uri, "timeout": settings.timeout_s}
        if token := secret(settings.token_file):
            how["token"] = token
        self._client = self._asked("manage", lambda: pymilvus.MilvusClient(**how))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def create(self, collection: str, size: int) -> None:
        """Make an empty collection, ready for searches.

        Args:
            collection: its name.
            size: E.
        """
        types, settings = pymilvus.DataType, self._settings
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("row", types.INT64, is_primary=True)
        schema.add_field(ITEM, types.VARCHAR, max_length=MAX_ID_BYTES)
        schema.add_field(DOCUMENT, types.JSON)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=size)
        index = self._client.prepare_index_params()
        graph = {"M": settings.graph_links, "efConstruction": settings.build_width}
        index.add_index("vector", index_type="HNSW", metric_type="IP", params=graph)
        self._asked(
            "manage",
            lambda: self._client.create_collection(
                collection, schema=schema, index_params=index, num_shards=settings.shards, timeout=settings.timeout_s
            ),
        )
        if settings.replicas > 1:  # creating loads one
            self._asked("manage", lambda: self._client.release_collection(collection))
            self._asked("manage", lambda: self._client.load_collection(collection, replica_number=settings.replicas))

    def insert(self, collection: str, rows: Sequence[NewRow]) -> int:
        """Add rows; a row of the same number is to have the same content. Returns the write's time."""
        listed = [
            {"row": row.row, ITEM: row.id, DOCUMENT: row.document, "vector": np.asarray(row.vector, np.float32)}
            for row in rows
        ]
        # `MilvusClient.insert` drops the time that the server gives, and the same call of its connection keeps it.
        made = self._asked(
            "write",
            lambda: self._client._get_connection().insert_rows(collection, listed, timeout=self._settings.timeout_s),
        )
        return int(made.timestamp)

    def search(
        self, collection: str, vector: NDArray[np.float32], count: int, *, where: str, after: int
    ) -> list[FoundRow]:
        """The rows most like a vector.

        Args:
            collection: of a generation.
            vector: (E,) unit length.
            count: how many, MAX_FOUND at most.
            where: an expression, "" for all rows.
            after: the time of a write that the search must see.
        """
        width = min(MAX_FOUND * 2, max(self._settings.search_width, 2 * count))
        found = self._asked(
            "search",
            lambda: self._client.search(
                collection,
                [vector.tolist()],
                filter=where,
                limit=count,
                output_fields=[ITEM],
                search_params={"metric_type": "IP", "params": {"ef": width}},
                timeout=self._settings.timeout_s,
                **_seeing(after),
            ),
        )
        return [FoundRow(int(hit["id"]), str(hit["entity"][ITEM]), float(hit["distance"])) for hit in found[0]]

    def rows(self, collection: str, where: str, *, last: int, count: int, after: int) -> list[tuple[int, str]]:
        """Numbers and ids of rows beyond `last`, ascending, those that an expression chooses; as for `search`."""
        found = self._asked(
            "list",
            lambda: self._client.query(
                collection,
                filter=f"row > {last} && ({where})",
                limit=count,
                output_fields=["row", ITEM],
                timeout=self._settings.timeout_s,
                **_seeing(after),
            ),
        )
        return sorted((int(row["row"]), str(row[ITEM])) for row in found)

    def count(self, collection: str, *, after: int) -> int:
        """Rows of a collection."""
        found = self._asked(
            "list",
            lambda: self._client.query(
                collection, filter="", output_fields=["count(*)"], timeout=self._settings.timeout_s, **_seeing(after)
            ),
        )
        return int(found[0]["count(*)"])

    def delete(self, collection: str, rows: Sequence[int]) -> None:
        """Take rows away; those that are not there are no error."""
        self._asked("write", lambda: self._client.delete(collection, ids=list(rows), timeout=self._settings.timeout_s))

    def flush(self, collection: str) -> None:
        """Write what was inserted as segments, whose graphs are then built."""
        self._asked("manage", lambda: self._client.flush(collection))

    def built(self, collection: str) -> int:
        """Rows whose graph is built."""
        found = self._asked("manage", lambda: self._client.describe_index(collection, "vector"))
        return int(found["indexed_rows"])

    def in_service(self, alias: str) -> str | None:
        """The collection that an alias stands for; None where there is no such alias."""
        try:
            found = self._asked("manage", lambda: self._client.describe_alias(alias, timeout=self._settings.timeout_s))
        except GalleryError as error:
            if getattr(error.__cause__, "code", None) == _NO_ALIAS:
                return None
            raise
        return str(found["collection_name"])

    def put_in_service(self, alias: str, collection: str) -> None:
        """Let an alias stand for a collection: one step for everybody who asks."""
        move = self._client.create_alias if self.in_service(alias) is None else self._client.alter_alias
        self._asked("manage", lambda: move(collection_name=collection, alias=alias, timeout=self._settings.timeout_s))

    def collections(self) -> Iterator[str]:
        """All there are, somebody else's too."""
        yield from sorted(
            self._asked("manage", lambda: self._client.list_collections(timeout=self._settings.timeout_s))
        )

    def drop(self, collection: str) -> None:
        """Take a collection away."""
        self._asked("manage", lambda: self._client.drop_collection(collection, timeout=self._settings.timeout_s))

    def take_out_of_service(self, alias: str) -> None:
        """Take an alias away."""
        self._asked("manage", lambda: self._client.drop_alias(alias, timeout=self._settings.timeout_s))

    def _asked(self, kind: Kind, call: Callable[[], T]) -> T:
        started = time.monotonic()
        outcome: Outcome = "unavailable"
        try:
            answer = call()
            outcome = "answered"
            return answer
        except pymilvus.MilvusException as error:
            said = str(error.message).split("\n")[0][:300]
            if error.code in _REFUSED or any(sign in said for sign in _REFUSED_SIGNS):
                outcome = "refused"
                raise GalleryError(f"Milvus at {self._settings.uri} refused a call: {said}") from error
            raise StoreUnavailableError(f"Milvus at {self._settings.uri} does not answer: {said}") from error
        except grpc.RpcError as error:
            raise StoreUnavailableError(f"Milvus at {self._settings.uri} does not answer: {error.code()}") from error
        finally:
            self.calls.ended("milvus", kind, time.monotonic() - started, outcome)


def _seeing(after: int) -> dict[str, Any]:
    return {"consistency_level": "Customized", "guarantee_timestamp": max(1, after)}
