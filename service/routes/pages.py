"""GET /, the page that a person searches with, and GET /docs. No build step, nothing loaded from elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from threadmatch.service.access.roles import needs

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent.parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page, read once: the set of files is fixed when the app is built."""

    body: bytes
    content_type: str
    etag: str


def read_page_files(folder: Path = FOLDER) -> dict[str, PageFile]:
    """All files of the page by name."""
    files: dict[str, PageFile] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in TYPES:
            body = path.read_bytes()
            etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
            files[path.name] = PageFile(body, TYPES[path.suffix], etag)
    return files


_files = read_page_files()


def _answer(request: Request, name: str) -> Response:
    if name not in _files:
        raise HTTPException(404)
    file = _files[name]
    headers = {"ETag": file.etag, "Cache-Control": "no-cache", "Content-Security-Policy": CONTENT_POLICY}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers={**headers, "Content-Type": file.content_type})


@router.get("/")
@needs("nothing")
async def index(request: Request) -> Response:
    """The search page."""
    return _answer(request, "index.html")


@router.get("/docs")
@needs("nothing")
async def docs(request: Request) -> Response:
    """The API in words, drawn from /openapi.json."""
    return _answer(request, "docs.html")


@router.get("/favicon.ico")
@needs("nothing")
async def favicon(request: Request) -> Response:
    """Asked for by browsers that look at an API answer; every format that they know will do."""
    return _answer(request, "icon.svg")


@router.get("/page/{name}")
@needs("nothing")
async def page_file(request: Request, name: str) -> Response:
    """A stylesheet or script of the pages."""
    return _answer(request, name)
