"""Real NDI on this machine: whether it is there, and peers in processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

CHILD = Path(__file__).parents[1] / "peer" / "ndi_child.py"
needs_ndi = pytest.mark.skipif(
    importlib.util.find_spec("cyndilib") is None, reason="needs the NDI library: pip install livelatent[ndi]"
)

Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def ndi_alone() -> Iterator[None]:
    """No other test speaks NDI meanwhile: all its processes on a machine share one port, and answer for each other."""
    with FileLock(Path(tempfile.gettempdir()) / "livelatent-ndi.lock"):
        yield


def heard(spawn: Spawn, *words: object, meanwhile: Callable[[], None]) -> list[Any]:
    """What a peer says in JSON before it ends; `meanwhile` is called again and again until then. One that crashes is
    started anew: cyndilib does, in 1 of 20 of its connections, and what it does so over is not ours."""
    for _ in range(5):
        child, said = spawn(*words), list[str]()
        # It may be more than a pipe holds: it would wait for us, and we for it.
        ear = threading.Thread(target=_listen, args=(child, said), name="ll-ear")
        ear.start()
        try:
            while ear.is_alive():
                meanwhile()
        finally:
            child.kill()
            ear.join()
        if said[0] or child.wait() >= 0:
            break
    found: list[Any] = json.loads(said[0])
    return found


def _listen(child: subprocess.Popen[str], said: list[str]) -> None:
    assert child.stdout is not None
    said.append(child.stdout.read())


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """spawn("send", name, w, h, fps): a peer, told to look on this machine without mDNS; killed after the test."""
    (tmp_path / "ndi-config.v1.json").write_text(json.dumps({"ndi": {"networks": {"ips": "127.0.0.1"}}}))
    children: list[subprocess.Popen[str]] = []

    def start(*words: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(CHILD), *map(str, words)]
        environ = {**os.environ, "NDI_CONFIG_DIR": str(tmp_path)}
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
