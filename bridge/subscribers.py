"""Who is told: peers from the config for ever, and peers that asked, until their time is over."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import ControlError
from bridge.net import Endpoint

MAX_PEERS = 16


@dataclass(slots=True)
class Peer:
    target: Endpoint
    """Where telemetry goes."""
    source: Endpoint | None = None
    """Where the peer sends from, so that it does not get its own changes back."""
    until_ns: int | None = None
    """When its subscription ends; None for a peer from the config."""


class Subscribers:
    """Used by the OSC thread alone."""

    def __init__(self, always: tuple[Endpoint, ...]) -> None:
        self._peers = {target: Peer(target) for target in always}

    def __len__(self) -> int:
        return len(self._peers)

    def add(self, target: Endpoint, source: Endpoint, until_ns: int) -> bool:
        """Subscribe or renew; True if this target is new. Raises ControlError when there are MAX_PEERS already."""
        peer = self._peers.get(target)
        if peer is not None:
            peer.source = source
            if peer.until_ns is not None:
                peer.until_ns = until_ns
            return False
        if sum(peer.until_ns is not None for peer in self._peers.values()) >= MAX_PEERS:
            raise ControlError(f"{MAX_PEERS} peers are listening already")
        self._peers[target] = Peer(target, source, until_ns)
        return True

    def remove(self, target: Endpoint) -> None:
        """End this subscription, if there is one; a peer from the config stays."""
        peer = self._peers.get(target)
        if peer is not None and peer.until_ns is not None:
            del self._peers[target]

    def expire(self, at_ns: int) -> None:
        for target, peer in list(self._peers.items()):
            if peer.until_ns is not None and at_ns >= peer.until_ns:
                del self._peers[target]

    def listens_at(self, source: Endpoint) -> Endpoint:
        """Where a peer that sends from `source` is told things: where it subscribed for, or right there."""
        return next((peer.target for peer in self._peers.values() if peer.source == source), source)

    def targets(self, but: object = None) -> list[Endpoint]:
        """Where to send, leaving out the peer that sends from `but` or listens there."""
        return [target for target, peer in self._peers.items() if but is None or but not in (target, peer.source)]
