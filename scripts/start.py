"""Makes the virtual environment, fills it with what is pinned, and hands over to livelatent. Standard library only.

Called by `start` and `start.bat`. Settings, all optional, from the environment:
LIVELATENT_PYTHON     which Python makes the environment
LIVELATENT_VENV       where it lies, instead of `.venv` beside the checkout
LIVELATENT_INSTALLER  `uv` or `pip`, instead of our choice (see `installer`)
LIVELATENT_TORCH      torch build for uv: `auto` (by the graphics card), `cpu`, `cu130`, ...
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import locale
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("LIVELATENT_VENV") or ROOT / ".venv").absolute()
WINDOWS = sys.platform == "win32"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
CONSTRAINTS = ROOT / "constraints.txt"
HELP = """start test [PYTEST OPTIONS]   format, lint, types, layers and tests
start install                  install again from nothing
start [COMMAND ...]            any command of livelatent:
"""


class Stop(Exception):
    """The reason why we can't go on, as one sentence."""


def main(words: Sequence[str]) -> int:
    """Prepare what the command needs, then become it."""
    if words in (["-h"], ["--help"], ["--version"]):
        if words != ["--version"]:
            print(HELP)
        os.chdir(ROOT)  # answers before anything is installed: `-m bridge` has to find the checkout
        return hand_over(sys.executable, "-m", "bridge", *words)
    if words[:1] == ["install"]:
        prepare("core", fresh=True)
        return 0
    if words[:1] == ["test"]:
        prepare("test")
        return hand_over(str(PYTHON), str(ROOT / "scripts" / "check"), *words[1:])
    prepare("core")
    # -P: a folder called `bridge` where the user stands must not be taken for ours.
    return hand_over(str(PYTHON), "-P", "-m", "bridge", *words)


def prepare(group: str, fresh: bool = False) -> None:
    """Bring the environment to what `group` needs: at once when its stamp says so, else by an install."""
    key = wanted(group)
    stamp = VENV / f"livelatent-{group}.stamp"
    if not fresh and ready(stamp, key):
        return
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        raise Stop("torch is no longer built for Macs with an Intel processor: livelatent can't run on this one.")
    try:
        with locked(VENV.with_name(VENV.name + ".lock")):
            if fresh or not ready(stamp, key):  # another start may have done it while we waited
                install(group, fresh)
                stamp.write_text(key)
                (VENV / "livelatent-core.stamp").write_text(wanted("core"))  # every group includes it
    except OSError as error:
        hint = "copy livelatent to where you may write, or set LIVELATENT_VENV to a folder"
        raise Stop(f"{VENV} can't be written ({error.strerror}): {hint}.") from error


def wanted(group: str) -> str:
    """What a finished install is known by: the pins, the requirements, and where the checkout lies."""
    facts = [CONSTRAINTS.read_text(), requirements(group), optional(), str(ROOT)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def requirements(group: str) -> list[str]:
    """From pyproject.toml: what livelatent needs, and for tests their group too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    core: list[str] = project["project"]["dependencies"]
    extra: list[str] = project["dependency-groups"]["test"] if group == "test" else []
    return core + extra


def optional() -> list[str]:
    """What makes this machine faster, and can be done without: openvino (60 MB) where a processor paints."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    here = sys.platform != "darwin" and platform.machine().lower() in ("x86_64", "amd64")
    if not here or shutil.which("nvidia-smi"):
        return []
    found: list[str] = project.get("optional-dependencies", {}).get("openvino", [])
    return found


def ready(stamp: Path, key: str) -> bool:
    """Whether an install has been finished for `key`, and its Python is still there (systems replace theirs)."""
    try:
        return stamp.read_text() == key and PYTHON.exists()
    except OSError:
        return False


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Two starts at once (an impatient double click) must not install into each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def install(group: str, fresh: bool) -> None:
    """Environment, packages, and the checkout on its path. What an interrupted install left is used or replaced."""
    say("installing what livelatent needs. Once, some minutes: under 1 GB, with an NVIDIA card several ...")
    for stamp in VENV.glob("livelatent-*.stamp"):
        stamp.unlink()
    if fresh or not healthy():
        make_venv()
    packages = ["-c", str(CONSTRAINTS), *requirements(group)]
    chosen = installer()
    if chosen == "uv" and not install_with_uv(packages):
        say("uv could not install it, pip tries ..." + (" (its torch can't use a graphics card)" if WINDOWS else ""))
        chosen = "pip"
    if chosen == "pip" and not pip(packages):
        raise Stop("the install did not finish, for the reason above; start again to go on from there.")
    more = ["-c", str(CONSTRAINTS), *optional()]
    if optional() and not (install_with_uv(more) if chosen == "uv" else pip(more)):
        say("openvino could not be installed, so torch paints, more slowly; `start install` tries again.")
    add_checkout()
    say("installed.")


def add_checkout() -> None:
    """Put the checkout itself on the environment's path: no build, no copy, nothing to install again after a change."""
    site = subprocess.check_output([PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    encoding = "utf-8" if sys.version_info >= (3, 13) else locale.getencoding()  # as that version's `site` reads it
    Path(site.strip(), "livelatent.pth").write_text(f"{ROOT}\n", encoding)


def healthy() -> bool:
    """Whether an environment is there that can at least run pip."""
    return PYTHON.exists() and run("-m", "pip", "--version", quiet=True)


def make_venv() -> None:
    if VENV.exists() and any(VENV.iterdir()) and not (VENV / "pyvenv.cfg").exists():
        raise Stop(f"{VENV} is there, but is no virtual environment: move it away.")
    base = getattr(sys, "_base_executable", None) or sys.executable
    made = subprocess.run([base, "-m", "venv", "--clear", VENV], stdout=sys.stderr, check=False)
    if made.returncode:
        raise Stop("Python can't make a virtual environment: on Debian and Ubuntu, `apt install python3-venv` helps.")


def installer() -> str:
    """pip where the user has told pip where packages come from, else uv, which picks torch by the graphics card."""
    choice = os.environ.get("LIVELATENT_INSTALLER", "")
    if choice in ("uv", "pip"):
        return choice
    listing = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    return "pip" if any(word in listing.stdout for word in ("index-url", "find-links", "no-index")) else "uv"


def install_with_uv(packages: Sequence[str]) -> bool:
    backend = os.environ.get("LIVELATENT_TORCH", "auto")
    target = ["--python", str(PYTHON), "--torch-backend", backend]
    return pip(["-c", str(CONSTRAINTS), "uv"]) and run("-m", "uv", "pip", "install", *target, *packages)


def pip(arguments: Sequence[str]) -> bool:
    return run("-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments)


def run(*arguments: str, quiet: bool = False) -> bool:
    """Run the environment's Python; its output goes to stderr, as stdout belongs to the command that follows."""
    out = subprocess.DEVNULL if quiet else sys.stderr
    environ = os.environ | {"PIP_USER": "0"}  # a user-wide `--user` setting can't work in an environment
    return subprocess.run([PYTHON, *arguments], stdout=out, stderr=out, env=environ, check=False).returncode == 0


def hand_over(*command: str) -> int:
    """Become the command, so that signals and the exit status are its own. Windows has no exec: wait for it there."""
    sys.stdout.flush()
    if not WINDOWS:
        os.execv(command[0], command)  # noqa: S606
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # Ctrl-C reaches the child too, and how it ends is its own affair
            continue


def say(text: str, to: IO[str] = sys.stderr) -> None:
    print(f"livelatent: {text}", file=to, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Stop as stop:
        say(str(stop))
        sys.exit(1)
    except KeyboardInterrupt:
        say("interrupted; the next start goes on from here.")
        sys.exit(130)
