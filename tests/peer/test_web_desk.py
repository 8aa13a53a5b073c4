"""What several pages are told about one show, over real WebSockets: looks, cues, the log, who moved what."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import simplejpeg
from support.stage import Stage, until
from support.visitor import Visitor, hear, say
from websockets.sync.client import ClientConnection

from bridge.show.looks import Library
from bridge.web.figures import EDGES_MS


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage().start()
    yield stage
    stage.stop()


@pytest.fixture
def visitor(stage: Stage) -> Visitor:
    return Visitor(stage)


def act(page: ClientConnection, address: str, *args: object) -> None:
    say(page, type="say", address=address, args=args)


def entry(page: ClientConnection, test: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first entry of the log that passes the test."""
    log = hear(page, "log", lambda message: any(map(test, message["entries"])))
    found: dict[str, Any] = next(filter(test, log["entries"]))
    return found


def test_a_look_that_one_saves_is_there_for_the_other_with_its_picture(stage: Stage, visitor: Visitor) -> None:
    stage.publish(output=np.full((300, 600, 3), (200, 30, 60), np.uint8))
    with visitor.talk() as one, visitor.talk() as two:
        act(one, "look/save", "my red")
        for page in (one, two):
            offer = hear(page, "offer", lambda message: any(look["name"] == "my red" for look in message["looks"]))
            assert offer["looks"][0]["own"]
            assert {"calm", "crisp"} <= {look["name"] for look in offer["looks"]}
            assert "tour" in offer["shows"]
        cookie = {"Cookie": visitor.cookie()}
        status, headers, jpeg = visitor.get(f"/look.jpg?name=my%20red&at={offer['looks'][0]['picture']}", **cookie)
        assert (status, headers["content-type"]) == (200, "image/jpeg")
        assert "max-age" in headers["cache-control"]
        pixels = simplejpeg.decode_jpeg(jpeg)
        assert pixels.shape == (128, 256, 3)
        assert np.abs(pixels.mean((0, 1)) - (200, 30, 60)).max() < 8
        act(two, "look/delete", "my red")
        hear(one, "offer", lambda message: all(look["name"] != "my red" for look in message["looks"]))
        assert visitor.get("/look.jpg?name=my%20red", **cookie)[0] == 404


def test_no_stranger_sees_a_look_and_no_name_is_a_path(stage: Stage, visitor: Visitor) -> None:
    stage.publish()
    stage.director.save("mine")
    assert visitor.get("/look.jpg?name=mine")[0] == 403
    cookie = {"Cookie": visitor.cookie()}
    assert visitor.get("/look.jpg?name=mine", **cookie)[0] == 200
    for name in ("../token", "..%2f..%2ftoken", "", "a" * 400, "%00"):
        assert visitor.get(f"/look.jpg?name={name}", **cookie)[0] == 404, name


def test_a_file_that_somebody_puts_into_the_folder_is_found(stage: Stage, visitor: Visitor) -> None:
    with visitor.talk() as page:
        hear(page, "offer")
        Library().save(Library().get("calm")._replace(name="from a stick"))  # another program's
        hear(page, "offer", lambda message: message["looks"][0]["name"] == "from a stick")


def test_the_cue_list_is_the_same_for_all_and_moves_for_all(stage: Stage, visitor: Visitor) -> None:
    with visitor.talk() as one, visitor.talk() as two:
        assert hear(one, "cues")["cues"] == []
        for look in ("calm", "crisp", "flowing"):
            act(one, "cue/insert", 0, look, 2, "8 beats")
        act(one, "cue/set", 2, "name", "middle")
        cues = hear(
            two, "cues", lambda message: [cue["name"] for cue in message["cues"]] == ["calm", "middle", "flowing"]
        )
        assert (cues["on"], cues["then"], cues["held"]) == (-1, 0, False)
        assert cues["cues"][1] | {"look": "crisp", "move": 2, "wait": "8 beats"} == cues["cues"][1]
        say(two, type="command", name="cue/go")
        until(lambda: stage.director.player is not None and stage.director.player.asked == 0, "the go was heard")
        stage.director.snapshot()
        assert hear(one, "cues", lambda message: message["on"] == 0)["then"] == 1
        act(one, "cue/hold", 1)
        hear(two, "cues", lambda message: message["held"])
        act(two, "cue/remove", 1)
        act(two, "show/save", "three")
        saved = hear(one, "cues", lambda message: message["show"] == "three")
        assert [cue["name"] for cue in saved["cues"]] == ["middle", "flowing"]
        assert "three" in hear(one, "offer", lambda message: "three" in message["shows"])["shows"]


def test_everyone_reads_who_did_what(stage: Stage, visitor: Visitor) -> None:
    with visitor.talk() as one, visitor.talk(user_agent_header="Mozilla/5.0 (iPhone) Mobile/15E148") as two:
        desk, phone = hear(one, "hello")["you"], hear(two, "hello")["you"]
        assert (desk[:5], phone[:6], desk[5:] != phone[6:]) == ("desk ", "phone ", True)
        say(two, type="set", values={"strength": 0.25}, seconds=1.5)
        assert hear(one, "change", lambda message: "strength" in message["values"])["by"] == phone
        assert entry(one, lambda e: e["kind"] == "move")["text"] == "strength → 0.25 in 1.5 s"
        stage.store.set("seed", 5, origin=("10.0.0.9", 7000))
        assert entry(two, lambda e: "seed" in e["text"])["who"] == "OSC 10.0.0.9"
        act(one, "look/recall", "calm", 0)
        hear(two, "change", lambda message: "strength" in message["values"] and message["by"] == "")
        recalled = entry(two, lambda e: e["kind"] == "look")
        assert (recalled["text"], recalled["who"]) == ("recalled calm", desk)
        act(one, "cue/insert", 0, "crisp")
        say(one, type="command", name="cue/go")
        assert entry(two, lambda e: e["text"] == "cue go")["who"] == desk
        stage.director.snapshot()
        fired = entry(two, lambda e: e["kind"] == "cue")
        assert (fired["text"], fired["who"]) == ("fired crisp", "")
        logging.getLogger("livelatent.somewhere").warning("the cable is loose")
        stage.metrics.gauge("error", "the camera is gone")
        stage.metrics.gauge("lora.error", "ink is for another family")
        assert entry(two, lambda e: e["kind"] == "warning")["text"] == "the cable is loose"
        assert entry(one, lambda e: e["kind"] == "error" and "ink" not in e["text"])["text"] == "the camera is gone"
    with visitor.talk() as late:
        texts = [e["text"] for e in hear(late, "log")["entries"]]
        assert {"recalled calm", "fired crisp", "the cable is loose", "ink is for another family"} <= set(texts)


def test_the_meters_details(stage: Stage, visitor: Visitor) -> None:
    for took in (10.0, 20.0, 20.0):
        stage.metrics.observe("latency", took)
    stage.metrics.observe("frame", 9.0)
    stage.metrics.count("feed.dropped", 4)
    with visitor.talk() as page:
        said = hear(page, "detail")
    assert said["stages"]["painting"] == [9.0, 9.0]
    assert {edge: n for edge, n in zip(said["edges"], said["latencies"], strict=True) if n} == {10.1: 1, 20.2: 2}
    assert said["memory"] == [0.0, 0.0]
    assert said["lost"] == {"feed.dropped": 4}
    assert len(EDGES_MS) == len(said["edges"])
