"""Records made pictures into argv[1] as argv[2] until it is killed; says so once argv[3] of them are written."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from support.records import fed, header, shown

from bridge.record.take import Take


def main() -> None:
    folder, kind, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    take = Take(folder, kind, header(f"picture.{kind}"), number=1)  # type: ignore[arg-type]
    n, said = 0, False
    while True:
        picture = shown(n)
        assert picture.made is not None
        take.offer(picture, picture.made, fed(n, take=1))
        while take.frames <= n:
            time.sleep(0.0005)
        n += 1
        if n >= count and not said:
            print(n, flush=True)
            said = True


main()
