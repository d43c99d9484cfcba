"""`labctl keys`: from an authority to two parties that know each other, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.parties.certificates import CERTIFICATE, Credentials
from labctl.party import Party

Run = Callable[..., Any]


@pytest.fixture
def keys(run_here: Run) -> Callable[..., Any]:
    """Run `labctl keys` with the arguments of a line."""

    def run(line: str) -> Any:
        return run_here("keys", *line.split())

    return run


def printed(keys: Callable[..., Any], line: str) -> dict[str, Any]:
    done = keys(f"{line} --json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_two_parties_get_certificates_and_one_of_them_loses_it(
    keys: Callable[..., Any], tmp_path: Path
) -> None:
    assert printed(keys, "authority authority --name lab")["role"] == "authority"
    asked = printed(keys, "request bank server bank --host localhost --host 127.0.0.1")
    assert asked["request"] == "bank/request.pem"
    printed(keys, "request hospital client hospital")
    bank = printed(keys, "issue bank --authority authority --days 10")
    assert (bank["role"], bank["hosts"]) == ("server", ["localhost", "127.0.0.1"])
    assert bank["days_left"] == 9
    hospital = printed(keys, "issue hospital/request.pem --authority authority")
    Credentials.read(tmp_path / "bank", Party.SERVER)
    Credentials.read(tmp_path / "hospital", Party.CLIENT)
    renewed = printed(keys, "renew hospital --authority authority")
    assert renewed["fingerprint"] == hospital["fingerprint"]
    assert printed(keys, f"show hospital/{CERTIFICATE}")["refused"] is None
    printed(keys, "revoke hospital --authority authority")
    printed(keys, "publish bank --authority authority")
    shown = keys("show hospital --at bank --json")
    assert shown.returncode == 2
    assert "revoked on" in json.loads(shown.stdout)["refused"]
    assert "revoked on" in shown.stderr
    again = keys("renew hospital --authority authority")
    assert again.returncode == 2
    assert "not renewed" in again.stderr


def test_people_see_the_whole_fingerprint(keys: Callable[..., Any]) -> None:
    made = printed(keys, "authority authority")
    assert made["fingerprint"] in keys("show authority").stdout


def test_what_is_there_is_not_made_again(keys: Callable[..., Any]) -> None:
    printed(keys, "authority authority")
    again = keys("authority authority")
    assert again.returncode == 2
    assert "a key is there already" in again.stderr
