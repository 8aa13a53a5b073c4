"""Tell the network, or this machine alone, that OSCQuery is here (mDNS, with the package zeroconf)."""

from __future__ import annotations

import ipaddress
import logging
import threading

log = logging.getLogger("livelatent.oscquery")


class Announcement:
    """From `start` to `stop`. On a thread of its own: asking whether a name is free takes a second."""

    def __init__(self, host: str, query_port: int, osc_port: int) -> None:
        """`host`: the address by which we are reached; loopback is told on loopback alone."""
        self._host, self._ports = host, {"_oscjson._tcp.local.": query_port, "_osc._udp.local.": osc_port}
        self._thread = threading.Thread(target=self._run, name="ll-announce", daemon=True)
        self._over = threading.Event()
        self.failed = threading.Event()
        """Set when there will be no announcement."""

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float = 1.0) -> None:
        """Take it back, as far as that is done by the deadline."""
        self._over.set()
        self._thread.join(deadline_s)

    def _run(self) -> None:
        try:
            from zeroconf import ServiceInfo, Zeroconf
        except ImportError:
            log.info('OSCQuery programs find this by its address; by themselves with `pip install "livelatent[show]"`')
            self.failed.set()
            return
        try:
            with Zeroconf(interfaces=[self._host]) as zeroconf:
                for kind, port in self._ports.items():
                    address = ipaddress.ip_address(self._host).packed
                    name = f"livelatent.{kind}"
                    service = ServiceInfo(kind, name, port, addresses=[address], properties={"txtvers": "1"})
                    if not self._over.is_set():
                        zeroconf.register_service(service, allow_name_change=True)
                self._over.wait()
        except Exception as error:  # no multicast, no network, a name that is taken: no show depends on being found
            log.info("OSCQuery can't be announced: %s", error)
            self.failed.set()
