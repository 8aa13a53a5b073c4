"""The transport bench measures something on every path."""

import os

from bridge import bench_transport
from bridge.transports import why_not


def test_every_path_delivers(monkeypatch):
    monkeypatch.setattr(bench_transport, "SIZES", ((48, 64),))
    rows = bench_transport.run(frames=15)
    assert [row.path for row in rows] == [
        *("memcpy in process", "shm ring", *(["zmq ipc raw"] if os.name == "posix" else [])),
        *("zmq tcp raw", "zmq tcp JPEG 85"),
        *([] if why_not("ndi") else ["NDI"]),
        "HTTP, JSON, base64 PNG",
    ]
    for row in rows:
        assert 0 < row.p50 <= row.p99
        assert 0 < row.frames <= row.sent == 15
        assert row.rate > 0
    assert bench_transport.ratios(rows)[0] == 1
    assert bench_transport.table(rows).count("64x48 rgba8") == len(rows)
