"""threadmatch: a street photo in, the same garment in the shop's catalogue out.

    >>> import threadmatch
    >>> result = threadmatch.ingest("shop/catalogue.csv", "gallery")
    >>> with threadmatch.open("gallery") as gallery:
    ...     answer = gallery.search("street.jpg", top_k=3)
    >>> [match.rank for match in answer.matches]
    [1, 2, 3]

Five names, each imported when it is first used: `import threadmatch` alone loads none of torch, Faiss and FastAPI.

open         a gallery, to search from this process
ingest       a catalogue into a gallery
load_model   a trained model, to share between the two, or to encode and score with
Client       of a service that runs elsewhere
create_app   the service itself, as an ASGI app

    >>> model = threadmatch.load_model("grnet-lite0")
    >>> model.image_px
    224
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadmatch.model.inference import load_model
    from threadmatch.service.app import create_app
    from threadmatch.service.client import Client
    from threadmatch.service.galleries.filling import ingest
    from threadmatch.service.galleries.local import LocalGallery as open  # noqa: N813 - a call opens one

__all__ = ["Client", "create_app", "ingest", "load_model", "open"]

_HOMES = {
    "Client": ("threadmatch.service.client", "Client"),
    "create_app": ("threadmatch.service.app", "create_app"),
    "ingest": ("threadmatch.service.galleries.filling", "ingest"),
    "load_model": ("threadmatch.model.inference", "load_model"),
    "open": ("threadmatch.service.galleries.local", "LocalGallery"),
}
"""Where each name is defined; the imports above say the same to type checkers, and a test holds the two together."""

if not TYPE_CHECKING:  # a type checker would take it for an attribute of any name

    def __getattr__(name: str) -> object:
        """Import one of the five names when it is first used (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module 'threadmatch' has no attribute {name!r}; it has {', '.join(__all__)}")
        module, attribute = _HOMES[name]
        found = globals()[name] = getattr(importlib.import_module(module), attribute)
        return found


def __dir__() -> list[str]:
    return list(__all__)
