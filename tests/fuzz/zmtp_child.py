"""One of our ZMQ drivers in a process of its own: `zmtp_child.py source|sink ADDRESS`; prints a line per good frame."""

import sys
import time

import numpy as np

from bridge.context import Context
from bridge.drivers import make_sink, make_source
from bridge.frame import Frame


def main() -> None:
    kind, address = sys.argv[1:]
    driver = (make_source if kind == "source" else make_sink)(f"zmq:{address}", Context())
    driver.open()
    print("open", flush=True)
    seq = 0
    while True:
        if kind == "source":
            if driver.read(0.05) is not None:
                print("frame", flush=True)
        else:
            driver.write(Frame(np.zeros((64, 64, 3), np.uint8), seq))
            seq += 1
            time.sleep(0.002)


if __name__ == "__main__":
    main()
