"""scripts/gpu-check: what it does on a machine without a card, and what it says where a wheel is missing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gpu-check"


@pytest.fixture
def script():
    loader = SourceFileLoader("gpu_check", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_check", loader))
    loader.exec_module(module)
    return module


def test_what_is_missing_is_named_by_its_wheel(script, monkeypatch):
    assert script.missing() == []
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("cv2", "zmq") else find(name))
    said = script.bring(script.missing())
    assert "opencv-python-headless pyzmq" in said
    assert "--no-index" in said


def test_what_is_needed_is_what_the_package_needs(script):
    import tomllib

    project = tomllib.loads((SCRIPT.parents[1] / "pyproject.toml").read_text())["project"]
    names = {line.partition(">")[0] for line in project["dependencies"]}
    test_only = {"pytest", "pytest-timeout", "psutil"}
    assert set(script.NEEDED.values()) - test_only <= names


def test_time_that_is_over_ends_a_part(script):
    assert script.run(["-c", "import time; time.sleep(60)"], 0.5) == 124


def test_without_a_card_it_says_so_and_writes_nothing(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    words = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--minutes", "2"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode != 0
    assert "no cuda, or no card" in done.stderr
    assert not list(tmp_path.iterdir())
