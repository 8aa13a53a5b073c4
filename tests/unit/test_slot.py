"""The mailbox: nothing is lost but what a newer item replaced, and that is counted."""

from __future__ import annotations

import threading
import time

from bridge.slot import LatestSlot


def test_newest_wins_and_every_loss_is_counted() -> None:
    slot: LatestSlot[int] = LatestSlot()
    total, got = 50_000, []

    def produce() -> None:
        for i in range(total):
            slot.put(i)

    producer = threading.Thread(target=produce)
    producer.start()
    while not got or got[-1] != total - 1:
        item = slot.take(1.0)
        if item is not None:
            got.append(item)
        if len(got) % 7 == 0:
            time.sleep(0.0005)
    producer.join()
    assert got == sorted(set(got)), "items came twice or out of order"
    assert len(got) + slot.dropped == slot.put_count == total


def test_take_waits_and_gives_up() -> None:
    slot: LatestSlot[str] = LatestSlot()
    assert slot.take(0.01) is None
    threading.Timer(0.05, slot.put, ("late",)).start()
    assert slot.take(5.0) == "late"
    assert slot.take(0.0) is None


def test_close_wakes_the_waiter() -> None:
    slot: LatestSlot[int] = LatestSlot()
    began = time.monotonic()
    threading.Timer(0.05, slot.close).start()
    assert slot.take(30.0) is None
    assert time.monotonic() - began < 10
    assert slot.closed
