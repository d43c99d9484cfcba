"""Notices to a service manager: what reaches its socket, and that none is needed."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from labctl import service


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_notices_reach_the_socket_that_systemd_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "abstract" and sys.platform != "linux":
        pytest.skip("Linux alone has abstract names")
    name = str(tmp_path / "notify") if kind == "path" else f"@labctl-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name[1:]}" if kind == "abstract" else name)
        manager.settimeout(20.0)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        service.ready()
        service.alive()
        assert [manager.recv(64), manager.recv(64)] == [b"READY=1", b"WATCHDOG=1"]


@pytest.mark.parametrize("name", ["", "vsock:2:1", "/nowhere/at/all"])
def test_without_a_service_manager_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    service.ready()
    service.alive()
    monkeypatch.delenv("NOTIFY_SOCKET")
    service.alive()
