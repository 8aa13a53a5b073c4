"""The token, the names of this machine, and where the page may listen."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.config import Config, LanConfig, WebConfig
from bridge.errors import ConfigError, DriverError
from bridge.web.access import host_name, keep_token
from bridge.web.address import host_names, listen, listen_host

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX matter")


def test_the_token_is_made_once(tmp_path: Path) -> None:
    token = keep_token(tmp_path / "home")
    assert len(token) >= 40
    assert keep_token(tmp_path / "home") == token
    assert keep_token(tmp_path / "other") != token


@posix
def test_only_this_user_can_read_the_token(tmp_path: Path) -> None:
    token = keep_token(tmp_path)
    path = tmp_path / "token"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    fresh = keep_token(tmp_path)
    assert fresh != token, "others could have read it"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "short", "with spaces " * 5, "ü" * 40, "x" * 500])
def test_a_damaged_token_is_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    token = keep_token(tmp_path)
    assert token != text
    assert keep_token(tmp_path) == token


def test_a_home_that_cannot_be_written_still_has_a_token(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert len(keep_token(tmp_path / "file" / "home")) >= 40


def test_host_headers() -> None:
    assert host_name("127.0.0.1:8210") == "127.0.0.1"
    assert host_name("LocalHost") == "localhost"
    assert host_name("[::1]:80") == "[::1]"
    for bad in ("", "::1", "a b", "evil.com/127.0.0.1", "localhost:80:80", "localhost:", "user@localhost", "[::1"):
        assert host_name(bad) is None, bad


def test_names_of_this_machine() -> None:
    assert host_names(lan=False) == {"127.0.0.1", "localhost", "[::1]"}
    assert socket.gethostname().lower() in host_names(lan=True)


def test_beyond_loopback_only_with_lan() -> None:
    assert listen_host(Config()) == "127.0.0.1"
    assert listen_host(Config(lan=LanConfig(enabled=True))) == "0.0.0.0"
    for host in ("0.0.0.0", "192.0.2.7", "::", "example.org"):
        with pytest.raises(ConfigError, match="--lan"):
            listen_host(Config(web=WebConfig(host=host)))
    chosen = Config(web=WebConfig(host="192.0.2.7"), lan=LanConfig(enabled=True))
    assert listen_host(chosen) == "192.0.2.7"


def test_a_taken_port_gives_the_next_free_one() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with listen("127.0.0.1", port) as second:
            assert second.getsockname()[1] != port


def test_a_foreign_address_is_a_sentence() -> None:
    with pytest.raises(DriverError, match=r"192\.0\.2\.7"):
        listen("192.0.2.7", 0)


def test_the_server_is_imported_without_starlette_and_uvicorn() -> None:
    """A bridge without a page does without them."""
    script = "import sys, bridge.web.server; print({'starlette', 'uvicorn', 'cv2', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert out.stdout.strip() == "set()"
