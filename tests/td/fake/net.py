"""OSC In and OSC Out DATs over real UDP, with python-osc's bytes: none of our own code on this side."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder
from td.fake.core import Par, tdError
from td.fake.ops import DAT


def _number(address: str) -> str:
    return "127.0.0.1" if address == "localhost" else address


def _message(address: Any, values: Any) -> OscMessage:
    if not isinstance(address, str) or not address.startswith("/"):
        raise tdError(f"{address!r} is no OSC address")
    if not isinstance(values, list):
        raise tdError("sendOSC takes a list of values behind each address")
    builder = OscMessageBuilder(address)
    for value in values:
        if not isinstance(value, (bool, int, float, str, bytes)):
            raise tdError(f"sendOSC can't send a {type(value).__name__}")
        builder.add_arg(value)
    return builder.build()


class _NetDAT(DAT):
    def __init__(self, *place: Any) -> None:
        super().__init__(*place)
        self._socket: socket.socket | None = None

    def _par_moved(self, par: Par) -> None:
        if par._name in ("active", "port", "address", "localaddress", "protocol"):
            self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _gone(self) -> None:
        self._shut()


class oscoutDAT(_NetDAT):
    def sendOSC(self, *pairs: Any, asBundle: bool = True, useNonStandardTypes: bool = True) -> int:
        if not pairs or len(pairs) % 2:
            raise tdError("sendOSC takes addresses, each followed by a list of values")
        messages = [_message(pairs[i], pairs[i + 1]) for i in range(0, len(pairs), 2)]
        if not self._pars["active"].eval():
            return 0
        if asBundle:
            builder = OscBundleBuilder(IMMEDIATELY)
            for one in messages:
                builder.add_content(one)
            packets = [builder.build().dgram]
        else:
            packets = [one.dgram for one in messages]
        if self._socket is None:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind(("127.0.0.1", self._pars["localport"].eval()))
        target = _number(self._pars["address"].eval()), self._pars["port"].eval()
        with contextlib.suppress(OSError):
            return sum(self._socket.sendto(packet, target) for packet in packets)
        return 0


class oscinDAT(_NetDAT):
    def _deliver(self) -> None:
        """Once a frame: every datagram that has come, one callback for each message."""
        if not self._pars["active"].eval():
            return
        if self._socket is None:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            try:
                self._socket.bind(("127.0.0.1", self._pars["port"].eval()))
            except OSError as error:
                self._shut()
                self._errors = [f"can't listen: {error}"]
                return
            self._errors = []
        while self._socket is not None:
            try:
                data, peer = self._socket.recvfrom(65536)
            except BlockingIOError:
                return
            self._take(data, peer)

    def _take(self, data: bytes, peer: Any) -> None:
        callbacks = self._pars["callbacks"].eval()
        if callbacks is None:
            return
        messages = _flat(OscBundle(data)) if OscBundle.dgram_is_bundle(data) else [OscMessage(data)]
        # Without Split Bundle one row, and one call, stands for a whole bundle.
        for one in messages if self._pars["splitbundle"].eval() else messages[:1]:
            callbacks._call("onReceiveOSC", self, 0, "", data, 0.0, one.address, list(one.params), peer)


def _flat(bundle: OscBundle) -> list[OscMessage]:
    out: list[OscMessage] = []
    for item in bundle:
        out += _flat(item) if isinstance(item, OscBundle) else [item]
    return out
