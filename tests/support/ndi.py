"""Real NDI on this machine: whether it is there, and peers in processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

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


def answer(child: subprocess.Popen[str]) -> object:
    """What a peer said in JSON before it ended."""
    assert child.stdout is not None
    said = child.stdout.read()
    assert child.wait() == 0, f"the peer ended with {child.returncode}, and said {said[:200]!r}"
    return json.loads(said)


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
