"""What a process keeps of the memory that it has freed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engines import heap

CHILD = """
import resource, sys
import torch
from engines.heap import keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(8 << 20, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
print(before, keep_freed(), faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other allocators are left alone")
def test_memory_that_was_freed_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, timeout=100)
    before, kept, after = done.stdout.split()
    if kept != "True":
        pytest.skip("another C library")
    assert int(before) >= 20 * 512, "nothing to gain here: the test is worth nothing"
    assert int(after) <= 2 * 2048 + 512, "8 MB once or twice"


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not heap.keep_freed()
