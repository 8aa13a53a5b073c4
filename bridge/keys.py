"""CURVE keys: who may connect, and whom we believe, once livelatent is opened to the network.

keys/server.key_secret   this machine's pair, made on first use, readable by its user alone
keys/clients/NAME.key    public keys that may connect to us: the allow-list
keys/servers/NAME.key    public keys of machines that we connect to
keys/export/             what `client` made, to be carried to the other machine and deleted here

The files are certificates as `zmq.auth` reads and writes them.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import threading
from pathlib import Path
from typing import NamedTuple

import zmq
import zmq.auth

from bridge.errors import ConfigError
from engines import paths

_making = threading.Lock()


class Pair(NamedTuple):
    """Both halves in Z85, 40 characters each."""

    public: bytes
    secret: bytes


def folder(name: str = "") -> Path:
    """The keys' folder or one below it, made with access for this user alone."""
    path = paths.home() / "keys" / name
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def machine() -> Pair:
    """This machine's own pair; made when there is none."""
    path = folder() / "server.key_secret"
    with _making:
        if not path.exists():
            public, secret = zmq.curve_keypair()
            _write(path, public, secret)
            _write(folder() / "server.key", public)
    public, loaded = _load(path)
    if loaded is None:
        raise ConfigError(f"{path} has no secret key; delete it and it is made anew")
    return Pair(public, loaded)


def allowed() -> Path:
    """The folder of those who may connect. Raises ConfigError when a file in it is no certificate."""
    clients = folder("clients")
    for path in clients.glob("*.key"):
        _load(path)
    return clients


def server(name: str) -> bytes:
    """The public key of the machine that keys/servers/NAME.key describes."""
    path = folder("servers") / f"{key_name(name)}.key"
    if not path.exists():
        raise ConfigError(f"no key of the server {name!r}: copy its server.key to {path}")
    return _load(path)[0]


def new_client(name: str) -> tuple[Path, bytes]:
    """Let a new peer in: the file to carry to it (its secret, and our public key) and our public key."""
    key_name(name)
    ours = machine()
    public, secret = zmq.curve_keypair()
    _write(folder("clients") / f"{name}.key", public)
    path = folder("export") / f"{name}.key_secret"
    _write(path, public, secret, {"server-public-key": ours.public.decode()})
    return path, ours.public


def key_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError("a key's name is 1 to 64 letters, digits, - or _")
    return text


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no key: {error}") from error


def _write(path: Path, public: bytes, secret: bytes | None = None, metadata: dict[str, str] | None = None) -> None:
    lines = ["metadata", *(f'    {key} = "{value}"' for key, value in (metadata or {}).items()), "curve"]
    lines.append(f'    public-key = "{public.decode()}"')
    if secret is not None:
        lines.append(f'    secret-key = "{secret.decode()}"')
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
    os.replace(part, path)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `livelatent keys`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    actions.add_parser("show", help="print this machine's public key, and who may connect")
    actions.add_parser("client", help="make a key for a peer, and let it in").add_argument("name")


def main(args: argparse.Namespace) -> int:
    """`show` prints this machine's public key; `client NAME` lets a peer in and says what to carry to it."""
    if args.action == "show":
        print(f"public key  {machine().public.decode()}")
        print(f"may connect {', '.join(sorted(p.stem for p in allowed().glob('*.key'))) or 'nobody'}")
        return 0
    try:
        path, public = new_client(args.name)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    print(f"Carry {path} to the other machine and delete it here; whoever has it may connect.")
    print(f"That machine needs our public key too (it is inside the file): {public.decode()}")
    return 0
