"""`livelatent td`: the TouchDesigner component, made and put where TouchDesigner finds it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bridge.errors import ConfigError
from bridge.tox import collapse, component, expand
from bridge.tox.drawing import as_svg
from bridge.tox.pages import as_json
from engines import paths

TD_PYTHON = "3.11"
"""What TouchDesigner 2023 and 2025 embed."""
PLATFORMS = {
    "win32": ("win_amd64",),
    "darwin": ("macosx_11_0_arm64", "macosx_10_15_universal2", "macosx_11_0_universal2"),
    "linux": ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
}
PIP_S = 300.0
NO_TOOL = (
    "TouchDesigner's toecollapse was not found here, so there is no livelatent.tox yet. Paste the line below into "
    "TouchDesigner's Textport (Dialogs menu): it builds the component in place and saves the .tox."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `livelatent td`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    build = actions.add_parser("build", help="write the component's expanded form, and the .tox where that is possible")
    build.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="where to; here without it")
    install = actions.add_parser("install", help="build it for this machine's TouchDesigner, with what it needs")
    install.add_argument("--no-packages", action="store_true", help="leave out pyzmq; shared memory works without it")
    actions.add_parser("drawing", help="print a drawing of the component's network as SVG")
    actions.add_parser("pages", help="print the custom parameter pages as JSON, as they follow from the table")


def main(args: argparse.Namespace) -> int:
    """0 when the component is there in one form or the other."""
    if args.action in ("pages", "drawing"):
        sys.stdout.write(as_json() if args.action == "pages" else as_svg())
        return 0
    if args.action == "build":
        return build(args.out)
    return install(packages=not args.no_packages)


def build(out: Path) -> int:
    """Write livelatent.tox.dir and .toc into `out`, and pack them if TouchDesigner's tool is there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        toc = expand.write(component.tree(), out / f"{component.network()['name']}.tox")
    except OSError as error:
        raise ConfigError(f"{out}: {error}") from error
    print(f"expanded   {toc}")
    program = collapse.tool()
    if program is None:
        print(NO_TOOL)
        print(line(component.folder().parent))
    else:
        print(f"component  {collapse.collapse(toc, program)}")
    return 0


def install(packages: bool) -> int:
    """Copy the sources into the user's folder, leave the command and pyzmq there, build, and say where to drag from."""
    home = paths.home() / "td"
    try:
        home.mkdir(parents=True, exist_ok=True)
        _copy(component.folder(), home / "component")
        shutil.copyfile(component.folder().parent / "build_in_td.py", home / "build_in_td.py")
        (home / "command.json").write_text(json.dumps(own_command(), indent=1) + "\n", "utf-8")
    except OSError as error:
        raise ConfigError(f"{home}: {error}") from error
    print(f"sources    {home / 'component'} ({component.component_hash()})")
    if packages:
        print(f"packages   {fetch(home / 'lib')}")
    toc = expand.write(component.tree(), home / f"{component.network()['name']}.tox")
    program = collapse.tool()
    if program is None:
        print(NO_TOOL)
        print(line(home))
    else:
        print(f"component  {collapse.collapse(toc, program)}: drag it into a TouchDesigner network")
    return 0


def line(folder: Path) -> str:
    """What to paste into the Textport."""
    script = folder / "build_in_td.py"
    return f"import pathlib; __file__ = r'{script}'; exec(pathlib.Path(__file__).read_text('utf-8'))"


def own_command() -> dict[str, object]:
    """What starts this livelatent: its words, and the folder to start it in where it runs from a checkout."""
    words = [sys.executable, "-m", "bridge"]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    probe = "import bridge; print(bridge.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=Path.home(),
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    installed = found.returncode == 0 and Path(found.stdout.strip()).parent.parent == paths.ROOT
    return {"argv": words, "cwd": None if installed else str(paths.ROOT)}


def fetch(target: Path) -> str:
    """pyzmq for TouchDesigner's Python, beside the component; a sentence about how that went, never an error."""
    tags = PLATFORMS.get(sys.platform, PLATFORMS["linux"])
    try:
        wanted = f"pyzmq=={version('pyzmq')}"
    except PackageNotFoundError:
        wanted = "pyzmq"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--no-deps", "--target", str(target)]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", TD_PYTHON]
    for tag in tags:
        command += ["--platform", tag]
    try:
        done = subprocess.run([*command, wanted], capture_output=True, text=True, timeout=PIP_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"pyzmq could not be fetched ({error}); shared memory works without it"
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or ["pip failed"]
        return f"pyzmq could not be fetched ({words[-1][:200]}); shared memory works without it"
    return f"{wanted} in {target}"


def _copy(source: Path, target: Path) -> None:
    """Replace `target` by the component's files; what a newer version no longer has goes."""
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
