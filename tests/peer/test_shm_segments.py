"""Who removes a segment, and who does not: real processes, among them killed ones."""

import os
import subprocess
import sys
import threading
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import WireError
from bridge.shm import Segment, process_alive, random_name, remove

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="Windows removes a segment with its last user")

ATTACH = """
import sys
from bridge.shm import Segment
segment = Segment.attach(sys.argv[1])
segment.buf[0] = 7
if len(sys.argv) > 2: segment.close()
"""
CREATE = """
import sys, time
from bridge.shm import Segment
segment = Segment.create(100_000, sys.argv[1])
print("here", flush=True)
if len(sys.argv) > 2:
    segment.close(); segment.unlink()
else:
    time.sleep(60)
"""


def python(code, *arguments):
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def exists(name):
    try:
        Segment.attach(name).close()
    except FileNotFoundError:
        return False
    return True


def gone_within(name, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not exists(name):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("polite", [[], ["close"]])
def test_a_process_that_attached_leaves_the_segment_when_it_exits(polite):
    segment = Segment.create(4096)
    out, err = python(ATTACH, segment.name, *polite).communicate(timeout=30)
    assert (out, err) == (b"", b"")
    assert segment.buf[0] == 7
    time.sleep(0.1)
    assert exists(segment.name)
    segment.close()
    segment.unlink()
    assert not exists(segment.name) or os.name != "posix"


@POSIX
def test_the_segment_of_a_killed_creator_is_removed():
    name = random_name()
    child = python(CREATE, name)
    assert child.stdout.readline() == b"here\n"
    assert exists(name)
    child.kill()
    child.communicate(timeout=60)
    assert gone_within(name, 10)


@POSIX
def test_an_attached_process_does_not_save_or_spoil_the_tracker():
    """Attaching in the creator's own process must leave its tracker entry alone."""
    name = random_name()
    child = python(CREATE.replace('print("here"', 'Segment.attach(sys.argv[1]).close(); print("here"'), name)
    assert child.stdout.readline() == b"here\n"
    assert exists(name)
    child.kill()
    child.communicate(timeout=60)
    assert gone_within(name, 10)


@POSIX
def test_a_creator_that_cleans_up_has_nothing_to_say():
    name = random_name()
    out, err = python(CREATE, name, "clean").communicate(timeout=30)
    assert (out, err) == (b"here\n", b"")
    assert not exists(name)


@POSIX
def test_unlinking_what_someone_else_removed_is_fine_and_silent():
    code = CREATE.replace("segment.close()", "import bridge.shm; bridge.shm.remove(segment.name); segment.close()")
    out, err = python(code, random_name(), "clean").communicate(timeout=30)
    assert (out, err) == (b"here\n", b"")


@POSIX
def test_an_adopted_segment_belongs_to_the_new_owner():
    name = random_name()
    SharedMemory(name, create=True, size=4096).close()
    heir = Segment.attach(name)
    heir.unlink()
    assert exists(name)
    heir.adopt()
    heir.close()
    heir.unlink()
    assert not exists(name)


def test_names_fit_macos_and_are_not_guessable():
    names = {random_name() for _ in range(1000)}
    assert len(names) == 1000
    assert all(len("/" + name) <= 31 for name in names)


def test_closing_while_arrays_look_at_the_memory():
    segment = Segment.create(4096)
    array = np.frombuffer(segment.buf, np.uint8)
    segment.close()
    segment.close()
    assert array.sum() == 0
    with pytest.raises(WireError, match="closed"):
        _ = segment.buf
    segment.unlink()


def test_errors_are_ours_or_say_which():
    with pytest.raises(FileNotFoundError):
        Segment.attach(random_name())
    segment = Segment.create(4096)
    with pytest.raises(FileExistsError):
        Segment.create(4096, segment.name)
    segment.close()
    segment.unlink()
    for size in (0, -1):
        with pytest.raises(WireError, match="shared memory"):
            Segment.create(size)
    remove(random_name())


def test_many_threads_attach_at_once_and_none_is_tracked():
    segment = Segment.create(4096)

    def attach():
        for _ in range(50):
            Segment.attach(segment.name).close()

    threads = [threading.Thread(target=attach) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    segment.close()
    segment.unlink()


def test_whether_a_process_lives():
    child = python("import time; time.sleep(60)")
    assert process_alive(child.pid)
    assert process_alive(os.getpid())
    child.kill()
    child.communicate()
    assert not process_alive(child.pid)
    for nonsense in (0, -1, 2**31, 2**64 - 1):
        assert not process_alive(nonsense)
