"""A real headless Chromium over its DevTools protocol: just enough to use a page as a person would."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--mute-audio",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--remote-debugging-port=0",
)
DEADLINE_S = 60.0


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target
        self.errors: list[str] = []
        """Exceptions, console errors and failed requests so far."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.send(method, self._session, **params)

    def goto(self, url: str) -> None:
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def eval(self, script: str) -> Any:
        """The value of an expression; a promise is waited for. AssertionError for an exception in it."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, timeout: float = DEADLINE_S) -> None:
        """Until the expression is truthy."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.eval(f"Boolean({script})"):
                return
            time.sleep(0.03)
        raise AssertionError(f"never true: {script} (page errors: {self.errors})")

    def viewport(self, width: int, height: int, scale: float = 1, mobile: bool = False) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def screenshot(self, path: Path) -> None:
        self.send("Page.bringToFront")
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """x, y, width, height of an element, scrolled into view."""
        x, y, w, h = self.eval(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            " return [r.x, r.y, r.width, r.height]; })()"
        )
        return x, y, w, h

    def mouse(self, kind: str, x: float, y: float, clicks: int = 1) -> None:
        buttons = 0 if kind == "mouseReleased" else 1
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=clicks)

    def click(self, selector: str, clicks: int = 1) -> None:
        x, y, w, h = self.box(selector)
        for count in range(1, clicks + 1):
            self.mouse("mousePressed", x + w / 2, y + h / 2, count)
            self.mouse("mouseReleased", x + w / 2, y + h / 2, count)

    def drag(self, selector: str, start: float, end: float, steps: int = 8) -> None:
        """Drag across an element, from one part of its width to another (0 to 1)."""
        x, y, w, h = self.box(selector)
        self.mouse("mousePressed", x + w * start, y + h / 2)
        for i in range(1, steps + 1):
            self.mouse("mouseMoved", x + w * (start + (end - start) * i / steps), y + h / 2)
        self.mouse("mouseReleased", x + w * end, y + h / 2)

    def touch(self, selector: str, *way: tuple[float, float]) -> None:
        """A finger on the middle of an element, along these steps (pixels from there), and off."""
        x, y, w, h = self.box(selector)
        for kind, dx, dy in (("touchStart", 0.0, 0.0), *(("touchMove", dx, dy) for dx, dy in way)):
            points = [{"x": x + w / 2 + dx, "y": y + h / 2 + dy}]
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def press(self, key: str, repeat: bool = False) -> None:
        """A key by its name, or the letter that it writes; `repeat`: as the system does while one is held down."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "Backspace": 8, "ArrowLeft": 37, "ArrowRight": 39}
        code = codes.get(key) or ord(key.upper())
        text = {"text": "\r" if key == "Enter" else key} if key == "Enter" or len(key) == 1 else {}
        down = "keyDown" if text else "rawKeyDown"
        more = {**text, "autoRepeat": repeat}
        self.send("Input.dispatchKeyEvent", type=down, key=key, code=key, windowsVirtualKeyCode=code, **more)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def close(self) -> None:
        self._browser.forget(self._session)
        self._browser.send("Target.closeTarget", targetId=self._target)

    def note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} ({params['entry'].get('url', '')})")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(str(params["args"]))


class Browser:
    """A running Chromium; `page()` opens a tab with a cookie jar of its own."""

    def __init__(self, process: subprocess.Popen[bytes], socket: ClientConnection) -> None:
        self.process = process
        self._socket = socket
        self._count = 0
        self._pages: dict[str, Page] = {}

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=DEADLINE_S))
            if answer.get("id") == self._count:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            page = self._pages.get(answer.get("sessionId", ""))
            if page is not None and "method" in answer:
                page.note(answer["method"], answer["params"])

    def page(self, own_cookies: bool = True) -> Page:
        where = (
            {"browserContextId": self.send("Target.createBrowserContext")["browserContextId"]} if own_cookies else {}
        )
        target = self.send("Target.createTarget", url="about:blank", **where)["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._pages[session] = page = Page(self, session, target)
        return page

    def forget(self, session: str) -> None:
        self._pages.pop(session, None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A fresh browser with an empty profile; gone, with all its processes, at the end."""
    program = find_chromium()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="ll-browser-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port, path = _devtools(Path(profile) / "DevToolsActivePort", process)
            from websockets.sync.client import connect  # not above: tests on a card's machine do without

            with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None) as socket:
                yield Browser(process, socket)
                socket.send(json.dumps({"id": 0, "method": "Browser.close"}))
            process.wait(60)
        finally:
            process.kill()
            process.wait()


def opened(browser: Browser, url: str) -> Page:
    """A tab with the page at a desk's size, once its controls and looks are drawn."""
    page = browser.page()
    page.viewport(1280, 900)
    page.goto(url)
    page.wait("document.querySelector('[data-name=strength]') && document.querySelector('[data-look=calm]')")
    return page


def _devtools(file: Path, process: subprocess.Popen[bytes]) -> tuple[int, str]:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "Chromium ended at once"
        lines = file.read_text().split() if file.exists() else []
        if len(lines) == 2:
            return int(lines[0]), lines[1]
        time.sleep(0.05)
    raise AssertionError("Chromium opened no DevTools port")
