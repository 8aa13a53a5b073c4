"""The memory, events and work of graphics cards that do not exist, in files, so that real processes can share them.

What lies on a card is a file that every process maps; a copy is done a moment later, by a thread, as on a real card:
whoever looks before he was told sees what was there before.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from numpy.random import default_rng


class Machine:
    """Cards by UUID, and all that lies on them, in `folder`. `misuse` is checked after every test."""

    def __init__(self, folder: Path, cards: tuple[str, ...] = (f"{0xA:032x}", f"{0xB:032x}")) -> None:
        self.folder, self.cards = folder, cards
        folder.mkdir(exist_ok=True)

    @property
    def misuse(self) -> list[str]:
        """What a real driver would have answered with undefined behaviour, in any process."""
        log = self.folder / "misuse"
        return log.read_text("utf-8").splitlines() if log.is_file() else []

    def fail(self, what: str) -> None:
        with (self.folder / "misuse").open("a", encoding="utf-8") as log:
            log.write(what + "\n")
        raise AssertionError(what)

    def birth(self) -> tuple[str, IO[bytes]]:
        """A process's token, and the lock that tells that it lives: a kill lets go of it."""
        token = secrets.token_hex(8)
        file = (self.folder / f"{token}.lives").open("wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        return token, file

    def lives(self, token: str) -> bool:
        try:
            with (self.folder / f"{token}.lives").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    def openers(self, mark: str) -> list[str]:
        """The living processes that have this allocation open."""
        found = (path.name.split(".")[2] for path in self.folder.glob(f"{mark}.open.*"))
        return [token for token in found if self.lives(token)]

    @property
    def open_count(self) -> int:
        """How often memory is open in a process that does not own it."""
        return sum(self.lives(path.name.split(".")[2]) for path in self.folder.glob("*.open.*"))


@dataclass
class Allocation:
    """What a process maps of a card's memory; `mark` names its file."""

    mark: str
    owner: str
    card: int
    size: int
    bytes: Any = field(repr=False)
    gone: bool = False

    @classmethod
    def make(cls, machine: Machine, owner: str, card: int, size: int) -> Allocation:
        mark = secrets.token_hex(8)
        path = machine.folder / f"{mark}.mem"
        with path.open("wb") as file:
            file.truncate(size)
        (machine.folder / f"{mark}.json").write_text(json.dumps({"owner": owner, "card": card, "size": size}))
        return cls(mark, owner, card, size, _mapped(path))

    @classmethod
    def find(cls, machine: Machine, mark: str) -> Allocation | None:
        """None when it was freed, or its owner has ended."""
        path = machine.folder / f"{mark}.json"
        if not path.is_file():
            return None
        row = json.loads(path.read_text())
        if not machine.lives(row["owner"]):
            return None
        return cls(mark, row["owner"], row["card"], row["size"], _mapped(machine.folder / f"{mark}.mem"))

    def free(self, machine: Machine) -> None:
        self.gone = True
        (machine.folder / f"{self.mark}.json").unlink()
        (machine.folder / f"{self.mark}.mem").unlink()


class Event:
    """Counts what was recorded and what has happened, in a file."""

    def __init__(self, machine: Machine, mark: str = "") -> None:
        self.mark, self._path = mark or secrets.token_hex(8), machine.folder
        self._path /= f"{self.mark}.event"
        if not mark:
            self._path.write_bytes(bytes(16))
        elif not self._path.is_file():
            raise FileNotFoundError(mark)
        self._words = memoryview(_mapped(self._path)).cast("Q")
        self.owned = not mark

    @property
    def happened(self) -> bool:
        return bool(self._words[1] >= self._words[0])

    def record(self) -> int:
        self._words[0] += 1
        return int(self._words[0])

    def happen(self, count: int) -> None:
        self._words[1] = count

    def destroy(self) -> None:
        if self.owned:
            self._path.unlink()


class Card:
    """The queue of one process's work on all its cards: done in order, each a moment after it was asked for."""

    def __init__(self, lag_s: float) -> None:
        self.lag_s, self.hurry, self._stopped = lag_s, False, False
        self._queue: deque[Callable[[], None]] = deque()
        self._change = threading.Condition()
        self._jitter = default_rng(11)
        self._thread = threading.Thread(target=self._run, name="fake-gpu", daemon=True)
        self._thread.start()

    def later(self, work: Callable[[], None]) -> None:
        with self._change:
            self._queue.append(work)
            self._change.notify_all()

    def drain(self) -> None:
        """Wait until all is done."""
        with self._change:
            self.hurry = True
            self._change.notify_all()
            done = self._change.wait_for(lambda: not self._queue, 20)
            self.hurry = False
        assert done, "the fake card hangs"

    def stop(self) -> None:
        with self._change:
            self._stopped = True
            self._change.notify_all()
        self._thread.join(5)

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._queue or self._stopped)
                if self._stopped:
                    return
                until = time.monotonic() + self.lag_s * (0.5 + self._jitter.random())
                while not (self.hurry or self._stopped) and (left := until - time.monotonic()) > 0:
                    self._change.wait(left)
                work = self._queue[0]
            try:
                work()
            except AssertionError:
                pass  # it stands in the machine's list of misuse
            finally:
                with self._change:
                    self._queue.popleft()
                    self._change.notify_all()


def _mapped(path: Path) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)
