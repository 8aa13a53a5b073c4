"""A livelatent of this machine as a child process: found, started, stopped, its last lines kept. Never torch in here.

It is started with --with-stdin and ends when our end of its standard input closes: with Stop, and with TouchDesigner,
however that ends. No operator is touched; whatever could take time happens on a thread.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

PATIENCE_S = 5.0


def home():
    """The folder where livelatent keeps what is the user's; `livelatent td install` leaves its command there."""
    place = os.environ
    if place.get("LIVELATENT_HOME"):
        return Path(place["LIVELATENT_HOME"])
    if sys.platform == "win32":
        return Path(place.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "livelatent"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "livelatent"
    return Path(place.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "livelatent"


def find(command):
    """(words that start livelatent, folder to start it in). FileNotFoundError, a sentence, when there is none."""
    if command.strip():
        words = shlex.split(command, posix=os.name != "nt")
        return [word.strip('"') for word in words], None
    note = home() / "td" / "command.json"
    if note.is_file():
        left = json.loads(note.read_text("utf-8"))
        return left["argv"], left["cwd"]
    found = shutil.which("livelatent")
    if found:
        return [found], None
    raise FileNotFoundError("livelatent is not installed here: run `livelatent td install`, or set Command")


def environment():
    """Ours without what would make another Python read TouchDesigner's packages."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}


class Bridge:
    """One child at a time. `poll` once a frame; `state` is off, starting, running, stopping or failed."""

    def __init__(self):
        self.lines, self.state, self.problem = deque(maxlen=200), "off", ""
        self._child, self._next, self._asked = None, None, 0.0

    @property
    def pid(self):
        return self._child.pid if self._child is not None else 0

    def start(self, command, words):
        """Ask for a child; one that still runs is stopped first."""
        self._next, self.problem = (command, words), ""
        if self._child is not None:
            self.stop(again=True)

    def stop(self, again=False):
        """Ask the child to end; `poll` sees to it."""
        if not again:
            self._next = None
        child = self._child
        if child is not None and self.state != "stopping":
            self.state, self._asked = "stopping", time.monotonic()
            try:
                child.stdin.close()
            except OSError:
                pass
        elif child is None and self.state != "failed":
            self.state = "off"

    def poll(self):
        """Cheap: notices a child that has ended, ends one that does not, starts the next. True when one has ended."""
        child, ended = self._child, False
        if child is not None:
            code = child.poll()
            ended = code is not None
            if ended:
                self._gone(code)
            elif self.state == "stopping":
                waited = time.monotonic() - self._asked
                if waited > 2 * PATIENCE_S:
                    child.kill()
                elif waited > PATIENCE_S:
                    child.terminate()
        if self._child is None and self._next is not None:
            (command, words), self._next = self._next, None
            self._launch(command, words)
        return ended

    def _launch(self, command, words):
        try:
            argv, folder = find(command)
            flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
            self._child = child = subprocess.Popen(
                [*argv, "run", "--with-stdin", *words],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment(),
                creationflags=flags,
            )
        except (OSError, ValueError, KeyError) as error:
            self.state, self.problem = "failed", str(error)
            return
        self.state = "running"
        threading.Thread(target=_listen, args=(child.stdout, self.lines), name="ll-td-lines", daemon=True).start()

    def _gone(self, code):
        wanted = self.state == "stopping"
        self._child.stdin.close()
        self._child = None
        self.state = "off" if wanted else "failed"
        if not wanted:
            said = [line for line in list(self.lines)[-5:] if line.strip()]
            self.problem = said[-1] if said else f"livelatent ended with code {code}"

    def close(self, timeout=PATIENCE_S):
        """End the child now, waiting for it; what happens when the component is deleted."""
        self.stop()
        child, self._child = self._child, None
        if child is not None:
            try:
                child.wait(timeout)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(timeout)
        self.state = "off"


def _listen(pipe, lines):
    """Keeps the pipe empty, or the child would block on a full one."""
    with pipe:
        for line in pipe:
            lines.append(line[:500].decode("utf-8", "replace").rstrip())
