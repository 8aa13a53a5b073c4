"""A TouchDesigner of its own, in the fake: `FOLDER {"Parameter": value, ...}`. It is there to be killed.

Prints `built SECONDS` when the component stands, `picture SECONDS` when the first one is on its output, and `black`
when, after that, one ever is.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from td.component import Stage  # noqa: E402

BLACK = 8

stage = Stage(Path(sys.argv[1]))
for name, value in json.loads(sys.argv[2]).items():
    setattr(stage.comp.par, name, value)
print("built", time.monotonic(), flush=True)
while not stage.ext.received:
    stage.frame()
print("picture", time.monotonic(), flush=True)
while True:
    stage.frame()
    if stage.out._seen()[..., :3].max() <= BLACK:
        print("black", flush=True)
