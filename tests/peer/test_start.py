"""`./start` for real: it makes environments and installs with pip, from a small wheel of our own, without an index."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="start is for POSIX shells; start.bat needs a Windows machine"),
    pytest.mark.timeout(240),
]

PROGRAM = """\
import signal, sys, time, tiny
print("ran", tiny.VERSION, sys.argv[1:], flush=True)
if sys.argv[1:] == ["wait"]:
    signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
    print("waiting", flush=True)
    time.sleep(60)
sys.exit(3 if sys.argv[1:] == ["fail"] else 0)
"""


def make_wheel(folder: Path, version: str) -> None:
    """The smallest package that pip takes."""
    info = f"tiny-{version}.dist-info"
    with zipfile.ZipFile(folder / f"tiny-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


class Checkout:
    """A clone with our start, one dependency, and a program that tells what it was given."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.wheels = root.parent / "wheels"
        self.wheels.mkdir(parents=True)
        make_wheel(self.wheels, "1.0")
        make_wheel(self.wheels, "2.0")
        (root / "scripts").mkdir(parents=True)
        (root / "bridge").mkdir()
        shutil.copy2(ROOT / "start", root)
        shutil.copy2(ROOT / "scripts" / "start.py", root / "scripts")
        (root / "bridge" / "__init__.py").touch()
        (root / "bridge" / "__main__.py").write_text(PROGRAM)
        (root / "scripts" / "check").write_text("import sys, tiny, bridge; print('checked', sys.argv[1:])\n")
        (root / "pyproject.toml").write_text(
            '[project]\nname = "x"\ndependencies = ["tiny"]\n[dependency-groups]\ntest = ["tiny>=1"]\n'
        )
        self.pin("1.0")

    def pin(self, version: str) -> None:
        (self.root / "constraints.txt").write_text(f"# pins\ntiny=={version}\n")

    def environ(self, **more: str) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "LIVELATENT_", "UV_", "PYTHON"))}
        settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheels.as_uri(), "PIP_CONFIG_FILE": os.devnull}
        return {**clean, **settings, "LIVELATENT_PYTHON": sys.executable, **more}

    def start(self, *words: str, script: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        elsewhere = self.root.parent / "elsewhere"
        (elsewhere / "bridge").mkdir(parents=True, exist_ok=True)
        for name in ("__init__.py", "__main__.py"):
            (elsewhere / "bridge" / name).write_text("print('not ours')\n")
        command = [script or self.root / "start", *words]
        return subprocess.run(
            command, cwd=elsewhere, env=self.environ(**more), capture_output=True, text=True, timeout=120, check=False
        )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    made = Checkout(tmp_path_factory.mktemp("start") / "a clone, with spaces")
    first = made.start("run", "--prompt", "a b")
    assert first.returncode == 0, first.stderr
    assert first.stdout == "ran 1.0 ['run', '--prompt', 'a b']\n"
    assert "installing" in first.stderr
    return made


def test_a_second_start_installs_nothing(checkout: Checkout) -> None:
    again = checkout.start(PIP_FIND_LINKS="/nowhere")
    assert (again.returncode, again.stdout, again.stderr) == (0, "ran 1.0 []\n", "")


def test_the_exit_status_is_the_programs(checkout: Checkout) -> None:
    assert checkout.start("fail").returncode == 3


def test_a_link_to_start_finds_the_checkout(checkout: Checkout) -> None:
    link = checkout.root.parent / "live"
    link.symlink_to(checkout.root / "start")
    assert checkout.start("params", script=link).stdout == "ran 1.0 ['params']\n"


def test_ctrl_c_reaches_the_program(checkout: Checkout) -> None:
    with subprocess.Popen([checkout.root / "start", "wait"], env=checkout.environ(), stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline().startswith(b"ran")
        assert child.stdout.readline() == b"waiting\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 7


def test_a_new_pin_is_installed_at_the_next_start(checkout: Checkout) -> None:
    checkout.pin("2.0")
    assert checkout.start().stdout == "ran 2.0 []\n"
    checkout.pin("1.0")
    assert checkout.start().stdout == "ran 1.0 []\n"


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64") or bool(shutil.which("nvidia-smi")),
    reason="openvino is not for this machine",
)
def test_what_can_be_done_without_is_asked_for_and_missed_in_one_sentence(checkout: Checkout) -> None:
    project = checkout.root / "pyproject.toml"
    before = project.read_text()
    try:
        project.write_text(f'{before}[project.optional-dependencies]\nopenvino = ["absent"]\n')
        done = checkout.start("x")
        assert done.returncode == 0, done.stderr
        assert "openvino could not be installed" in done.stderr
        assert "installing" not in checkout.start("x").stderr
    finally:
        project.write_text(before)


def test_tests_get_their_group_and_their_arguments(checkout: Checkout) -> None:
    for stamp in (checkout.root / ".venv").glob("*.stamp"):
        stamp.unlink()
    done = checkout.start("test", "-k", "a or b")
    assert done.stdout == "checked ['-k', 'a or b']\n", done.stderr
    assert checkout.start("test", PIP_FIND_LINKS="/nowhere").returncode == 0
    assert checkout.start("run", PIP_FIND_LINKS="/nowhere").stdout == "ran 1.0 ['run']\n"


def test_an_interrupted_install_is_mended(checkout: Checkout) -> None:
    """As left by a Ctrl-C: no stamp yet, and an environment in which not even pip runs."""
    for stamp in (checkout.root / ".venv").glob("*.stamp"):
        stamp.unlink()
    (pip,) = (checkout.root / ".venv").glob("lib/python*/site-packages/pip")
    shutil.rmtree(pip)
    assert checkout.start().stdout == "ran 1.0 []\n"


def test_a_python_that_went_away_is_replaced(checkout: Checkout) -> None:
    python = checkout.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert checkout.start().stdout == "ran 1.0 []\n"


def test_a_checkout_that_was_moved_runs_from_its_new_place(checkout: Checkout) -> None:
    moved = checkout.root.with_name("moved")
    checkout.root.rename(moved)
    try:
        done = checkout.start("x", script=moved / "start")
        assert done.stdout == "ran 1.0 ['x']\n", done.stderr
    finally:
        moved.rename(checkout.root)


def test_an_install_that_fails_says_so_and_goes_on_at_the_next_start(checkout: Checkout) -> None:
    checkout.pin("2.0")
    failed = checkout.start(PIP_FIND_LINKS="/nowhere")
    assert failed.returncode == 1
    assert "start again" in failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr
    assert checkout.start().stdout == "ran 2.0 []\n"
    checkout.pin("1.0")


def test_two_starts_at_once_install_once(checkout: Checkout) -> None:
    for stamp in (checkout.root / ".venv").glob("*.stamp"):
        stamp.unlink()
    command, environ = [checkout.root / "start"], checkout.environ()
    pair = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    said = [child.communicate(timeout=120) for child in pair]
    assert [child.returncode for child in pair] == [0, 0]
    assert sum(b"installed." in err for _, err in said) == 1


def test_a_folder_that_can_not_be_written_is_a_sentence(checkout: Checkout) -> None:
    done = checkout.start(LIVELATENT_VENV="/dev/null/venv")
    assert done.returncode == 1
    assert "can't be written" in done.stderr
    assert "LIVELATENT_VENV" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_of_the_users_is_never_cleared(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = checkout.start(LIVELATENT_VENV=str(tmp_path))
    assert done.returncode == 1
    assert "no virtual environment" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_no_fitting_python_is_a_sentence(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    for tool in ("dirname", "readlink"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    script = tmp_path / "start"
    shutil.copy2(ROOT / "start", script)
    done = checkout.start(script=script, PATH=str(tmp_path), LIVELATENT_PYTHON="")
    assert done.returncode == 1
    assert "Python 3.11" in done.stderr


def test_help_needs_no_install(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for top in ("bridge", "engines"):
        (tmp_path / top).mkdir()
        for path in (ROOT / top).glob("*.py"):
            shutil.copy2(path, tmp_path / top)
    shutil.copy2(ROOT / "start", tmp_path)
    began = time.monotonic()
    done = subprocess.run([tmp_path / "start", "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "start test" in done.stdout
    assert "usage: livelatent" in done.stdout
    assert not (tmp_path / ".venv").exists(), time.monotonic() - began


def test_pip_takes_over_where_uv_can_not_be_had(checkout: Checkout) -> None:
    checkout.pin("2.0")
    done = checkout.start(LIVELATENT_INSTALLER="uv")
    assert done.stdout == "ran 2.0 []\n", done.stderr
    assert "pip tries" in done.stderr
    checkout.pin("1.0")
