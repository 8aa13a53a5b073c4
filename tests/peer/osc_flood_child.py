"""A sender that floods an OSC port: `osc_flood_child.py PORT RATE SECONDS`.

200 addresses in turn: every parameter that takes a number or a text while running, and the rest unknown ones. Prints,
as JSON, how many datagrams it sent and the last value of every parameter.
"""

from __future__ import annotations

import json
import socket
import sys
import time

from bridge.dispatch import answer
from bridge.osc import build, message
from pipelines.params import ParamSpec, table

ADDRESSES = 200
VARIANTS = 64
BURST = 50


def value(spec: ParamSpec, number: int) -> float | int | str:
    if spec.type is str:
        return f"a city of {number} towers"
    assert spec.low is not None
    assert spec.high is not None
    return spec.type(spec.low + (spec.high - spec.low) * number / VARIANTS)


def main(port: int, rate: int, seconds: float) -> None:
    specs = [
        spec
        for spec in table().values()
        if spec.kind != "structural" and not (spec.choices or spec.ids) and spec.type is not bool and spec.step == 1
    ]
    values = [{spec.name: value(spec, number) for spec in specs} for number in range(VARIANTS)]
    unknown = [f"/ll/nowhere/{number}" for number in range(ADDRESSES - len(specs))]
    rounds = [
        [build(answer("/ll", name, v)) for name, v in row.items()] + [build(message(a, 0.5)) for a in unknown]
        for row in values
    ]
    datagrams = [datagram for row in rounds for datagram in row]
    total = int(rate * seconds) // ADDRESSES * ADDRESSES
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        start = time.perf_counter()
        for sent in range(0, total, BURST):
            time.sleep(max(0.0, start + sent / rate - time.perf_counter()))
            at = sent % len(datagrams)
            for datagram in datagrams[at : at + BURST]:
                sock.send(datagram)
        took = time.perf_counter() - start
    last = values[(total // ADDRESSES - 1) % VARIANTS]
    print(json.dumps({"sent": total, "took": took, "last": last}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
