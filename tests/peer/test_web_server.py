"""The page's server as other programs see it: real HTTP, real WebSockets, and strangers that are turned away."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import simplejpeg
from support.stage import Stage, picture
from support.visitor import DEADLINE_S, Visitor, hear, say
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from bridge.config import Config, LanConfig, WebConfig
from bridge.errors import ConfigError, WorkerError
from bridge.telemetry import READINGS, SHOW
from bridge.web import pictures
from bridge.web.messages import HEADER, MAX_MESSAGE_BYTES
from bridge.web.pictures import IN_FLIGHT, encode_jpeg
from pipelines.params import table


def _fail() -> None:
    raise WorkerError("no worker to reset")


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def stage(calls: list[str]) -> Iterator[Stage]:
    stage = Stage(commands={"reset": lambda: calls.append("reset"), "broken": _fail})
    stage.start()
    yield stage
    stage.stop()


@pytest.fixture
def visitor(stage: Stage) -> Visitor:
    return Visitor(stage)


def see(page: ClientConnection, shelf: int) -> tuple[tuple[Any, ...], np.ndarray[Any, Any]]:
    """The next picture of a shelf: its header and its pixels."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        data = page.recv(timeout=DEADLINE_S)
        if isinstance(data, bytes) and data[0] == shelf:
            head = HEADER.unpack_from(data)
            return head, simplejpeg.decode_jpeg(data[head[2] :])
    raise AssertionError("no picture")


def until_closed(page: ClientConnection) -> None:
    """Take what still comes; a socket that stays open is a TimeoutError."""
    try:
        while True:
            page.recv(timeout=DEADLINE_S)
    except ConnectionClosed:
        return


# Who gets in


def test_the_address_opens_the_page_once_and_the_cookie_ever_after(visitor: Visitor) -> None:
    status, headers, body = visitor.get(f"/?token={visitor.token}")
    assert status == 200
    assert b"<title>livelatent" in body
    assert headers["content-type"].startswith("text/html")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert visitor.token not in body.decode()
    status, headers, _ = visitor.get("/", Cookie=visitor.cookie())
    assert status == 200
    assert "set-cookie" not in headers


def test_headers_that_browsers_obey(visitor: Visitor) -> None:
    for path in ("/", "/app.js", "/nowhere"):
        _, headers, _ = visitor.get(f"{path}?token={visitor.token}")
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_without_the_token_there_is_nothing(visitor: Visitor) -> None:
    wrong = ["", "?token=", "?token=wrong", f"?token={visitor.token}x", f"?token={visitor.token[:-1]}", "?token=%C3%BC"]
    for path in ("/", "/app.js", "/still.png", "/nowhere"):
        for query in wrong:
            status, headers, body = visitor.get(path + query)
            assert status == 403, path + query
            assert "set-cookie" not in headers
            assert b"address" in body
        for cookie in ("livelatent=", "livelatent=wrong", "other=1", "livelatent=\xff", ";;;=", "livelatent"):
            assert visitor.get(path, Cookie=cookie)[0] == 403, cookie


def test_a_foreign_host_name_is_turned_away(visitor: Visitor) -> None:
    """However its name resolves: what DNS rebinding sends."""
    foreign = [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "10.0.0.1",
        "",
        "::1",
    ]
    for host in foreign:
        assert visitor.get(f"/?token={visitor.token}", Host=host)[0] == 403, host
    with pytest.raises(InvalidStatus) as refused:
        visitor.talk(f"evil.example:{visitor.port}")
    assert refused.value.response.status_code == 403


def test_our_own_names_are_welcome(visitor: Visitor) -> None:
    for host in ("localhost", "LOCALHOST:1234", "[::1]:8210", "127.0.0.1"):
        assert visitor.get(f"/?token={visitor.token}", Host=host)[0] == 200, host


def test_other_pages_are_turned_away(visitor: Visitor) -> None:
    cookie = visitor.cookie()
    strangers = ["http://evil.example", "null", "http://127.0.0.1:1", f"http://localhost:{visitor.port}", "file://"]
    for origin in strangers:
        assert visitor.get("/still.png", Cookie=cookie, Origin=origin)[0] == 403, origin
        assert visitor.get("/", "POST", Cookie=cookie, Origin=origin)[0] == 403, origin
        with pytest.raises(InvalidStatus) as refused:
            visitor.talk(Origin=origin)
        assert refused.value.response.status_code == 403
    with visitor.talk(Origin=f"http://{visitor.host}") as page:
        hear(page, "hello")


def test_a_socket_needs_the_token_too(visitor: Visitor) -> None:
    for cookie in ("", "livelatent=wrong"):
        with pytest.raises(InvalidStatus) as refused:
            visitor.talk(Cookie=cookie)
        assert refused.value.response.status_code == 403


def test_nothing_but_the_page_is_served(visitor: Visitor) -> None:
    for path in ("/../server.py", "/..%2fserver.py", "/%2e%2e/server.py", "//etc/passwd", "/static/app.js", "/..\\x"):
        assert visitor.get(f"{path}?token={visitor.token}")[0] == 404, path


def test_nothing_can_be_written(visitor: Visitor) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert visitor.get(f"/?token={visitor.token}", method)[0] == 405


def test_an_unchanged_file_is_not_sent_again(visitor: Visitor) -> None:
    status, headers, body = visitor.get(f"/app.js?token={visitor.token}")
    assert (status, headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    status, _, again = visitor.get(f"/app.js?token={visitor.token}", **{"If-None-Match": headers["etag"]})
    assert (status, again) == (304, b"")
    assert body


# Stills


def test_stills(stage: Stage, visitor: Visitor) -> None:
    assert visitor.get(f"/still.png?token={visitor.token}")[0] == 404
    pixels = picture(7, 96, (0.9, 0.3, 0.6))
    stage.publish(output=pixels, input=255 - pixels)
    status, headers, body = visitor.get(f"/still.png?token={visitor.token}")
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "image/png", "no-store")
    shown = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(shown, pixels)
    status, headers, body = visitor.get(f"/still.jpg?shelf=input&token={visitor.token}")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert np.abs(simplejpeg.decode_jpeg(body).astype(int) - (255 - pixels)).mean() < 4


# What the page is told


def test_the_hello_describes_everything(stage: Stage, visitor: Visitor) -> None:
    stage.store.set("seed", 77)
    with visitor.talk() as page:
        hello = hear(page, "hello")
        assert [row["name"] for row in hello["table"]] == list(table())
        assert hello["values"]["seed"] == 77
        assert [figure["address"] for figure in hello["figures"]] == [row.address for row in (*READINGS, *SHOW)]
        assert hello["commands"] == ["cue/go", "cue/back", "tap", "reset", "broken"]


def test_a_move_reaches_the_store_and_every_other_page(stage: Stage, visitor: Visitor) -> None:
    with visitor.talk() as one, visitor.talk() as two:
        hear(one, "hello"), hear(two, "hello")
        say(one, type="set", values={"strength": 0.25, "seed": 9})
        assert hear(two, "change", lambda m: "strength" in m["values"])["values"] == {"strength": 0.25}
        hear(two, "change", lambda m: m["values"] == {"seed": 9})
        assert stage.store.snapshot().strength == 0.25
        stage.store.set("strength", 0.75, over_s=3)
        for page in (one, two):
            message = hear(page, "change", lambda m: m["values"].get("strength") == 0.75)
            assert message["seconds"] == {"strength": 3}


def test_a_move_over_time_is_a_ramp(stage: Stage, visitor: Visitor) -> None:
    with visitor.talk() as page:
        hear(page, "hello")
        say(page, type="set", values={"strength": 1.0}, seconds=3600)
        hear(page, "change", lambda m: m["values"].get("strength") == 1.0)
        assert 0.6 <= stage.store.snapshot().strength < 0.61


def test_a_refused_move_says_why_and_where_the_value_is(stage: Stage, visitor: Visitor) -> None:
    with visitor.talk() as page:
        hear(page, "hello")
        say(page, type="set", values={"strength": 7, "seed": 5})
        assert hear(page, "problem")["name"] == "strength"
        hear(page, "change", lambda m: m["values"] == {"strength": 0.6})
        assert stage.store.values()["seed"] == 1, "all or nothing"
        say(page, type="set", values={"model": "../../etc/passwd"})
        assert "no " in hear(page, "problem")["text"]


def test_bad_messages_get_an_answer_and_nothing_else_happens(visitor: Visitor) -> None:
    with visitor.talk() as page:
        hear(page, "hello")
        for bad in (
            "",
            "{",
            "null",
            '{"type":"exec"}',
            "[" * 5000,
            " " * (MAX_MESSAGE_BYTES + 1),
            b"\x00binary",
            "\x00",
        ):
            page.send(bad)
            assert hear(page, "problem")["text"]
        say(page, type="set", values={"seed": 11})
        hear(page, "change", lambda m: m["values"] == {"seed": 11})


def test_a_flood_of_bad_messages_is_answered_with_a_few(visitor: Visitor) -> None:
    with visitor.talk() as page:
        hear(page, "hello")
        for i in range(2000):
            say(page, type="set", values={f"no{i}": 1})
        say(page, type="set", values={"seed": 12})
        hear(page, "change", lambda m: m["values"] == {"seed": 12})


def test_a_message_too_large_ends_its_own_socket_alone(visitor: Visitor) -> None:
    with visitor.talk() as other:
        hear(other, "hello")
        with visitor.talk() as page:
            page.send("x" * 1_000_000)
            until_closed(page)
        hear(other, "stats")


def test_commands(visitor: Visitor, calls: list[str]) -> None:
    with visitor.talk() as page:
        hear(page, "hello")
        say(page, type="command", name="reset")
        say(page, type="command", name="broken")
        assert hear(page, "problem")["text"] == "no worker to reset"
        assert calls == ["reset"]
        say(page, type="command", name="stop")
        assert "stop" in hear(page, "problem")["text"]


def test_stats(stage: Stage, visitor: Visitor) -> None:
    stage.metrics.gauge("state", "holding")
    stage.metrics.gauge("error", "the camera is gone")
    stage.metrics.gauge("params.version", 12.0)
    stage.metrics.gauge("prompt.tokens", 5.0)
    stage.metrics.count("source.dropped", 3)
    stage.metrics.count("output.dropped", 4)
    stage.metrics.count("worker.restarts", 2)
    for latency in (30.0, 40.0, 50.0):
        stage.metrics.observe("latency", latency)
    with visitor.talk() as page:
        stats = hear(page, "stats")
        seen = stats["readings"]
        assert (seen["/state"], seen["/error"], seen["/param/version"]) == ("holding", "the camera is gone", 12)
        assert (seen["/latency/p50"], seen["/dropped"], seen["/restarts"]) == (40.0, 7, 2)
        assert seen["/prompt/tokens"] == 5.0


# Pictures


def test_both_pictures_arrive_with_their_stamps(stage: Stage, visitor: Visitor) -> None:
    one, two = picture(0, 96, (0.6, 0.7, 0.8)), picture(30, 96, (0.9, 0.3, 0.6))
    stage.publish(seq=41, input=one, output=two)
    with visitor.talk() as page:
        say(page, type="watch", shelves=["input", "output"])
        for shelf, pixels in ((0, one), (1, two)):
            head, shown = see(page, shelf)
            assert head[4] == 41
            assert head[5] == 1
            assert 0.039 < head[7] - head[6] < 10
            assert np.abs(shown.astype(int) - pixels).mean() < 4


def test_a_picture_is_encoded_once_for_all_and_not_at_all_for_nobody(
    stage: Stage, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def counting(pixels: np.ndarray[Any, Any]) -> bytes:
        encoded.append(1)
        return encode_jpeg(pixels)

    monkeypatch.setattr(pictures, "encode_jpeg", counting)
    with visitor.talk() as one, visitor.talk() as two:
        hear(one, "hello"), hear(two, "hello")
        for seq in range(5):
            stage.publish(seq=seq)
        hear(one, "stats")
        assert not encoded
        for page in (one, two):
            say(page, type="watch", shelves=["output"])
        first, second = see(one, 1)[0], see(two, 1)[0]
        assert first == second, "the very same message, its time of encoding included"
        assert len(encoded) == 1


def test_nobody_who_does_not_watch_gets_pictures(stage: Stage, visitor: Visitor) -> None:
    stage.publish()
    with visitor.talk() as page:
        say(page, type="watch", shelves=["output"])
        see(page, 1)
        say(page, type="watch", shelves=[])
        say(page, type="set", values={"seed": 3})
        hear(page, "change")
        stage.publish(seq=1)
        say(page, type="set", values={"seed": 4})
        before = time.monotonic()
        while time.monotonic() < before + 0.4:
            try:
                assert isinstance(page.recv(timeout=0.1), str)
            except TimeoutError:
                pass


def test_a_page_that_does_not_acknowledge_gets_no_more_and_then_the_newest(stage: Stage, visitor: Visitor) -> None:
    with visitor.talk() as slow, visitor.talk() as quick:
        for page in (slow, quick):
            hear(page, "hello")
            say(page, type="watch", shelves=["output"])
        for seq in range(20):
            stage.publish(seq=seq)
            head, _ = see(quick, 1)
            assert head[4] == seq, "a slow page costs the others nothing"
            say(quick, type="ack", shelf="output", number=head[3])
        got = [see(slow, 1)[0] for _ in range(IN_FLIGHT)]
        assert got[-1][4] < 19
        say(slow, type="ack", shelf="output", number=got[-1][3])
        assert see(slow, 1)[0][4] == 19


def test_a_page_that_reads_nothing_stops_nobody(stage: Stage, visitor: Visitor) -> None:
    stage.play(fps=120, side=512, frames=4)
    with visitor.talk() as stuck, visitor.talk() as quick:
        say(stuck, type="watch", shelves=["input", "output"])
        for number in range(10**6, 10**6 + 200):
            say(stuck, type="ack", shelf="output", number=number)
        say(quick, type="watch", shelves=["output"])
        for _ in range(60):
            head, _ = see(quick, 1)
            say(quick, type="ack", shelf="output", number=head[3])


def test_sizes_that_change_at_every_frame(stage: Stage, visitor: Visitor) -> None:
    with visitor.talk() as page:
        hear(page, "hello")
        say(page, type="watch", shelves=["output"])
        for seq, (height, width) in enumerate([(1, 1), (288, 1550), (2160, 4096), (64, 64)]):
            stage.publish(seq=seq, output=np.zeros((height, width, 3), np.uint8))
            head, shown = see(page, 1)
            assert head[4] == seq
            assert abs(shown.shape[1] / shown.shape[0] - width / height) < 0.02 * width / height
            say(page, type="ack", shelf="output", number=head[3])


def test_a_picture_that_cannot_be_encoded_is_counted(stage: Stage, visitor: Visitor) -> None:
    with visitor.talk() as page:
        say(page, type="watch", shelves=["output"])
        stage.publish(output=np.zeros((4, 4, 3), np.float32))
        deadline = time.monotonic() + DEADLINE_S
        while not stage.metrics.get("web.errors") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stage.metrics.get("web.errors")
        stage.publish(seq=8)
        assert see(page, 1)[0][4] == 8


# Coming and going


def test_a_taken_port_does_not_stop_the_run(stage: Stage) -> None:
    second = Stage(Config(web=WebConfig(port=stage.server.port))).start()
    try:
        assert second.server.port != stage.server.port
        assert f":{second.server.port}/" in second.server.url
    finally:
        second.stop()


def test_beyond_loopback_needs_lan() -> None:
    stage = Stage(Config(web=WebConfig(port=0, host="0.0.0.0")))
    with pytest.raises(ConfigError, match="--lan"):
        stage.start()
    stage.stop()


def test_with_lan_other_machines_may_come() -> None:
    stage = Stage(Config(web=WebConfig(port=0), lan=LanConfig(enabled=True))).start()
    try:
        visitor = Visitor(stage)
        host = urlsplit(stage.server.url).netloc
        assert visitor.get(f"/?token={visitor.token}", Host=host)[0] == 200
        assert visitor.get(f"/?token={visitor.token}", Host="evil.example")[0] == 403
        assert visitor.get("/", Host=host)[0] == 403
    finally:
        stage.stop()


def test_it_stops_at_once_and_leaves_nothing() -> None:
    stage = Stage().start()
    visitor = Visitor(stage)
    stage.play(fps=60, side=128, frames=4)
    with visitor.talk() as page:
        say(page, type="watch", shelves=["input", "output"])
        see(page, 1)
        stage.stop()
        stage.stop()
        until_closed(page)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("ll-", "asyncio"))]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", visitor.port), 1)
    with socket.create_server(("127.0.0.1", visitor.port)):
        pass


def test_the_store_survives_the_page(stage: Stage) -> None:
    stage.server.stop()
    stage.store.set("seed", 5)
    assert stage.store.snapshot().seed == 5


def test_looks_cues_and_schedules_by_their_osc_addresses(stage: Stage, visitor: Visitor) -> None:
    with visitor.talk() as page:
        say(page, type="set", values={"strength": 0.25})
        hear(page, "hello")
        say(page, type="say", address="look/save", args=["from the page"])
        say(page, type="say", address="look/list")
        assert "from the page" in hear(page, "said")["args"]
        stage.store.set("strength", 0.75)
        say(page, type="say", address="look/recall", args=["from the page", 0])
        hear(page, "change", lambda message: message["values"].get("strength") == 0.25)
        for address, args, sentence in (
            ("look/recall", ["../x"], "name is up to 40"),
            ("nowhere", [], "there is no address"),
            ("cue/jump", [1], "no show is loaded"),
        ):
            say(page, type="say", address=address, args=args)
            assert sentence in hear(page, "problem")["text"]
        say(page, type="say", address="look/list", args=[1] * 9)
        assert "not a message we know" in hear(page, "problem")["text"]
