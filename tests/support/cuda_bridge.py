"""`cuda_bridge.py MACHINE run …`: livelatent with the cards of a fake machine (support.fake_gpu)."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from support.fake_cuda import Process  # noqa: E402
from support.fake_gpu import Machine  # noqa: E402

from bridge.cli import main  # noqa: E402


def lend(process: Process) -> None:
    """This process finds NVIDIA's driver from now on: `process`."""
    real = ctypes.CDLL

    def load(name: str | None, *args: Any, **kwargs: Any) -> Any:
        return process if name in ("libcuda.so.1", "nvcuda.dll") else real(name, *args, **kwargs)

    ctypes.CDLL = load  # type: ignore[assignment, misc]


if __name__ == "__main__":
    lend(Process(Machine(Path(sys.argv.pop(1)))))
    sys.exit(main())
