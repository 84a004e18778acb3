"""A typed client of the service, sync and async. Needs httpx and pydantic; imports neither torch nor faiss.

    from threadmatch import Client

    with Client("http://127.0.0.1:8000") as client:
        for match in client.search("street.jpg", top_k=3).matches:
            print(match.rank, match.id, match.probability)

docs/client.md has every call; `AsyncClient` is the same with an event loop.
"""

from threadmatch.service.client.asynchronous import AsyncClient
from threadmatch.service.client.errors import (
    AnswerNotUnderstoodError,
    ClientError,
    RequestFailedError,
    ServiceUnreachableError,
    TryAgainLaterError,
)
from threadmatch.service.client.retries import Retries
from threadmatch.service.client.synchronous import Client

__all__ = [
    "AnswerNotUnderstoodError",
    "AsyncClient",
    "Client",
    "ClientError",
    "RequestFailedError",
    "Retries",
    "ServiceUnreachableError",
    "TryAgainLaterError",
]
