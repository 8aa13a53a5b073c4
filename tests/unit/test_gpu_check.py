"""scripts/gpu-check: what it does on a machine without a card, and what it says where a wheel is missing."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gpu-check"

LACKING = (
    *("av", "zmq", "simplejpeg", "starlette", "uvicorn", "websockets", "rich", "peft", "openvino"),
    *("onnx", "onnxruntime", "tensorrt", "triton", "mido", "zeroconf", "skimage"),
)


@pytest.fixture
def script():
    loader = SourceFileLoader("gpu_check", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_check", loader))
    loader.exec_module(module)
    return module


def test_what_is_missing_is_named_by_its_wheel(script, monkeypatch):
    assert script.missing() == []
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("cv2", "msgspec") else find(name))
    said = script.bring(script.missing())
    assert "msgspec opencv-python-headless" in said
    assert "--no-index" in said


def test_what_is_needed_is_what_the_package_needs(script):
    import tomllib

    project = tomllib.loads((SCRIPT.parents[1] / "pyproject.toml").read_text())["project"]
    names = {line.partition(">")[0] for line in project["dependencies"]}
    test_only = {"pytest", "pytest-timeout", "psutil"}
    assert set(script.NEEDED.values()) - test_only <= names


def test_time_that_is_over_ends_a_part_and_what_it_started(script, tmp_path):
    log, pid = script.Log(tmp_path / "log"), tmp_path / "pid"
    start = f"""
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path({str(pid)!r}).write_text(str(child.pid))
print("begun", flush=True)
time.sleep(600)
"""
    assert script.run(["-c", start], 3.0, log) == 124
    log.write()
    assert "stopped after 3 s" in (tmp_path / "log").read_text()
    if pid.exists():  # a busy machine may not have come so far
        deadline = time.monotonic() + 30
        while psutil.pid_exists(int(pid.read_text())):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_what_failed_is_said(script, tmp_path, monkeypatch):
    log = script.Log(tmp_path / "log")
    monkeypatch.setattr(script, "run", lambda words, seconds, log: 1)
    args = argparse.Namespace(smoke=False, out=tmp_path, streamdiffusion=None, rows="")
    assert script.tests(args, 60.0, log)[0] == "tests/gpu/test_compiled.py: code 1"
    assert script.bench(args, 60.0, log) == ["nothing was measured: code 1"]

    def leaves(words, seconds, log):
        Path(words[words.index("--json") + 1]).write_text(json.dumps({"failed": {"a row": "no memory"}}))
        return 0

    monkeypatch.setattr(script, "run", leaves)
    assert script.bench(args, 60.0, log) == ["a row: no memory"]


def test_all_files_of_tests_on_a_card_are_run(script):
    there = {path.stem.removeprefix("test_") for path in (SCRIPT.parents[1] / "tests" / "gpu").glob("test_*.py")}
    assert set(script.TESTS) == there


@pytest.mark.slow
def test_what_is_imported_on_a_card_is_what_is_asked_for():
    """Tests and rows, with every other package of ours that a bare machine lacks held back."""
    code = f"""
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {LACKING!r} else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
import bridge.bench_rows, bridge.bench_gpu, pytest
sys.exit(pytest.main(["tests/gpu", "--collect-only", "-q", "-W", "default"]))
"""
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=SCRIPT.parents[1], env=env
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_without_a_card_it_says_so_and_writes_nothing(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    words = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--minutes", "2"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode != 0
    assert "no cuda, or no card" in done.stdout
    assert not list(tmp_path.iterdir())
