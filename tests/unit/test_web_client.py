"""The outbox of a page: newest wins, nothing piles up."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from bridge.metrics import Metrics
from bridge.preview import PreviewHub
from bridge.web.client import MAX_PROBLEMS, Client
from bridge.web.messages import Change, Command, Set
from bridge.web.pictures import Pictures


class Socket:
    """A page that has said all it will say, and goes away when it has read what it was told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"type": "websocket.disconnect"}

    async def send_text(self, text: str) -> None:
        self.heard.append(text)


async def _obey(client: Client, message: Set | Command) -> None:
    raise AssertionError("nobody asked for anything")


def told(before: Any) -> list[str]:
    """What a page hears when `before(client)` ran while it was not listening."""
    socket = Socket()

    async def run() -> None:
        pictures = Pictures(PreviewHub(), Metrics(), asyncio.get_running_loop())
        client = Client(cast(Any, socket), pictures, _obey)
        before(client)
        await client.live()

    asyncio.run(run())
    return socket.heard


def test_of_many_changes_of_one_row_the_last_is_told() -> None:
    def flood(client: Client) -> None:
        for value in range(1000):
            client.tell("change.seed", Change({"seed": value}, {}))
        client.tell("change.steps", Change({"steps": 2}, {}))

    heard = told(flood)
    assert [text.partition("values")[2][:14] for text in heard] == ['":{"seed":999}', '":{"steps":2},']


def test_of_many_complaints_the_last_few_are_told() -> None:
    heard = told(lambda client: [client.complain(f"no {i}") for i in range(1000)])
    assert len(heard) == MAX_PROBLEMS
    assert "no 999" in heard[-1]
