"""Who may use the page: whoever knows the token, under a name of this machine, from a page of our own.

A browser on this machine is a stranger too: any web page it shows can send requests to a loopback address. So every
request must name us by an address of ours (a foreign name that resolves to us is DNS rebinding), must not come from
another page (Origin), and must carry a secret that no other page can read (a Strict cookie).
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "livelatent"
COOKIE_DAYS = 30
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,64}")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?")


def keep_token(folder: Path) -> str:
    """The token of this installation, made once, readable by this user alone; a fresh one if it can't be kept."""
    path = folder / "token"
    for _ in range(2):
        kept = _read_token(path)
        if kept is not None:
            return kept
        fresh = secrets.token_urlsafe(32)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(fresh)
            return fresh
        except FileExistsError:
            continue  # another run made one at the same moment: use that
        except OSError:
            break
    return secrets.token_urlsafe(32)


def _read_token(path: Path) -> str | None:
    """The kept token; None if there is none, it is malformed, or others could have read it."""
    try:
        text = path.read_text(encoding="ascii").strip()
        exposed = os.name == "posix" and path.stat().st_mode & 0o077
    except (OSError, UnicodeDecodeError):
        return None
    return text if _TOKEN.fullmatch(text) and not exposed else None


def host_name(host: str) -> str | None:
    """The name in a Host header without its port, lower case; None if the header is malformed."""
    match = _HOST.fullmatch(host.lower())
    return match.group(1) if match else None


class Guard:
    """ASGI middleware in front of everything: refuses strangers with 403, adds the headers that browsers obey."""

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        host = headers.get(b"host", "")
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        reason = self._refusal(host, headers.get(b"origin"), given, _cookie(headers.get(b"cookie", "")))

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._secure(MutableHeaders(scope=message), host, bool(given) and reason is None)
            await send(message)

        if reason is None:
            await self._app(scope, receive, send_guarded)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            await PlainTextResponse(reason + "\n", 403)(scope, receive, send_guarded)

    def _refusal(self, host: str, origin: str | None, given: str, cookie: str) -> str | None:
        """Why this request is refused, as a sentence; None if it is welcome."""
        if host_name(host) not in self._hosts:
            return "livelatent does not answer to this host name."
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return "livelatent does not answer to other pages."
        if not self._knows(given) and not self._knows(cookie):
            return "Open the address that livelatent printed when it started: it carries the token."
        return None

    def _knows(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "replace"), self._token)

    def _secure(self, headers: MutableHeaders, host: str, enter: bool) -> None:
        # Older Safari does not count ws: on the same host as 'self', hence the address in full.
        socket = f"ws://{host} wss://{host}" if host_name(host) else ""
        headers["Content-Security-Policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; manifest-src 'self'; "
            f"connect-src 'self' {socket}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers["X-Frame-Options"] = "DENY"
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers.setdefault("Cache-Control", "no-store")
        if enter:
            value = f"{COOKIE}={self._token.decode()}; Path=/; Max-Age={COOKIE_DAYS * 86400}; HttpOnly; SameSite=Strict"
            headers.append("Set-Cookie", value)


def _cookie(header: str) -> str:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""
