"""Who may import whom, and what importing the bridge costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "diffusers", "transformers", "tensorrt", "safetensors", "peft", "scipy"}
ENTRIES = {"bench_rows.py"}
"""Of processes in which networks run, imported by nothing else of the bridge; the worker's own imports them later."""


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_bridge_loads_no_torch() -> None:
    modules = modules_after("import bridge.app")
    assert "bridge.app" in modules
    assert not modules & HEAVY


def test_what_the_bridge_takes_from_below_loads_no_torch() -> None:
    modules = modules_after(
        "import pipelines.params, pipelines.spec, pipelines.build, engines.registry, engines.weights"
    )
    assert not modules & (HEAVY - {"safetensors"})


def test_no_module_of_the_bridge_loads_torch() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "bridge").rglob("*.py"))
        if path.name not in {"__init__.py", "__main__.py", *ENTRIES}
    ]
    assert len(names) > 30
    modules = modules_after(f"import {', '.join(names)}")
    assert not modules & (HEAVY - {"safetensors"})
    assert not modules & {f"bridge.{name.removesuffix('.py')}" for name in ENTRIES}


def test_imports_run_downward() -> None:
    code = "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 kept, 0 broken" in done.stdout
