"""Work in a process of its own: what it reports, how it fails, and that it can be called off. Real processes."""

from __future__ import annotations

import sys
import threading

import pytest

from engines import errand
from engines.errors import ModelError

BODY = """
import sys
from engines.errand import accept

with accept() as task:
    print("what a library says")
    if task.text == b"fail\\n":
        print("one\\nit has no card", file=sys.stderr)
        sys.exit(1)
    task.tell(b"got " + task.text.strip())
    if task.text == b"wait\\n":
        task.cancelled.wait()
        task.tell(b"called off")
    if task.text == b"deaf\\n":
        import threading
        threading.Event().wait()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that runs errands, known to children of this process."""
    (tmp_path / "some_errand.py").write_text(BODY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "some_errand"


def test_it_gets_its_order_and_reports_line_by_line(module):
    heard = []
    ended = errand.send(module, b"go", heard.append, threading.Event())
    assert (ended.code, heard) == (0, [b"got go\n"])


def test_its_last_word_is_why_it_failed(module):
    heard = []
    ended = errand.send(module, b"fail", heard.append, threading.Event())
    assert (ended.code, ended.said, heard) == (1, "it has no card", [])


def test_it_is_called_off_and_ends_by_itself(module):
    off, heard = threading.Event(), []

    def hear(line):
        heard.append(line)
        off.set()

    ended = errand.send(module, b"wait", hear, off)
    assert (ended.code, heard) == (0, [b"got wait\n", b"called off\n"])


def test_one_that_does_not_listen_is_ended(module, monkeypatch):
    monkeypatch.setattr(errand, "GRACE_S", 0.2)
    off = threading.Event()
    ended = errand.send(module, b"deaf", lambda _: off.set(), off)
    assert ended.code != 0


def test_where_no_process_can_be_started_it_says_so(module, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ModelError, match="no process could be started"):
        errand.send(module, b"go", lambda _: None, threading.Event())
