"""What the server answers: the page's own files, the newest picture, the looks' pictures, and the WebSocket."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection
from functools import cache
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from bridge.errors import ControlError
from bridge.preview import PreviewHub
from bridge.web.access import Guard
from bridge.web.desk import Desk
from bridge.web.pictures import encode_jpeg, encode_png

STATIC = Path(__file__).parent / "static"
MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
STILLS = {"png": ("image/png", encode_png), "jpg": ("image/jpeg", lambda pixels: encode_jpeg(pixels, 95))}


@cache
def static_files() -> dict[str, tuple[bytes, str, str]]:
    """URL path → bytes, media type, ETag of everything the page is made of. No request ever becomes a file name."""
    out = {}
    for path in sorted(STATIC.iterdir()):
        if path.suffix in MEDIA:
            data = path.read_bytes()
            url = "/" if path.name == "index.html" else f"/{path.name}"
            out[url] = (data, MEDIA[path.suffix], f'"{hashlib.sha256(data).hexdigest()[:16]}"')
    return out


async def _static(request: Request) -> Response:
    data, media, etag = static_files()[request.url.path]
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=media, headers=headers)


def _stills(preview: PreviewHub) -> list[Route]:
    """`/still.png` and `/still.jpg`: the newest output in full size, or `?shelf=input`, `?shelf=hint`."""

    def still_of(kind: str) -> Route:
        media, encode = STILLS[kind]

        async def still(request: Request) -> Response:
            frame = preview.newest(request.query_params.get("shelf", "output"))
            if frame is None:
                return PlainTextResponse("There is no picture yet.\n", 404)
            return Response(await asyncio.to_thread(encode, frame.pixels), media_type=media)

        return Route(f"/still.{kind}", still, methods=["GET"])

    return [still_of(kind) for kind in STILLS]


def _look(desk: Desk) -> Route:
    """`/look.jpg?name=NAME`: the picture beside a look. The page adds when it was taken, so that it may be kept."""

    async def look(request: Request) -> Response:
        name = request.query_params.get("name", "")
        try:
            jpeg = await asyncio.to_thread(desk.board.picture, name) if desk.board is not None else None
        except ControlError:
            jpeg = None
        if jpeg is None:
            return PlainTextResponse("This look has no picture.\n", 404)
        headers = {"Cache-Control": "private, max-age=604800"} if "at" in request.query_params else {}
        return Response(jpeg, media_type="image/jpeg", headers=headers)

    return Route("/look.jpg", look, methods=["GET"])


def make_app(desk: Desk, preview: PreviewHub, token: str, hosts: Collection[str]) -> ASGIApp:
    """The whole application, behind its guard."""
    routes = [Route(path, _static, methods=["GET"]) for path in static_files()]
    app = Starlette(routes=[*routes, *_stills(preview), _look(desk), WebSocketRoute("/ws", desk.serve)])
    return Guard(app, token, hosts)
