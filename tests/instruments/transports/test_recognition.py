"""After a lost connection the same instrument has to answer; nothing is sent to another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from socket_peers import Peers, Send

from labctl.environment import RECORD, REPLAY
from labctl.errors import ConnectionFailedError, OtherInstrumentError
from labctl.instruments.power_meters.thorlabs_pm100d import ThorlabsPM100D


class Place:
    """A socket at which one power meter answers, and then others: `identities` in this order."""

    def __init__(self, peers: Peers) -> None:
        self.identities = ["THORLABS,PM100D,P0000001,2.7.0"]
        self.heard: list[bytes] = []
        self.peer = peers(self._handle)

    def open(self) -> ThorlabsPM100D:
        return ThorlabsPM100D.open("tap", self.peer.address, library="@py", options={})

    def replace_by(self, *identities: str) -> None:
        """Break the connection; others answer from now on, the last of them for ever."""
        self.identities = list(identities)
        self.heard.clear()
        self.peer.hang_up()

    def _handle(self, line: bytes, send: Send) -> None:
        self.heard.append(line.strip())
        if line == b"*IDN?\n":
            send(self.identities[0].encode() + b"\n")
            self.identities = self.identities[1:] or self.identities
        elif line == b"SYST:ERR?\n":
            send(b'+0,"No error"\n')
        elif b"POW?" in line:
            send(b"W;1.5E-03\n")


@pytest.fixture
def place(socket_peer: Peers) -> Place:
    return Place(socket_peer)


@pytest.fixture
def meter(place: Place) -> Iterator[ThorlabsPM100D]:
    opened = place.open()
    yield opened
    opened.close()


def after_a_loss(meter: ThorlabsPM100D) -> float:
    """Measure; the first message may be the one that finds the connection lost."""
    try:
        return meter.power_w()
    except ConnectionFailedError:
        return meter.power_w()


@pytest.mark.parametrize("same", ["THORLABS,PM100D,P0000001,2.7.0", "THORLABS,PM100D,P0000001,3.0"])
def test_the_same_instrument_is_used_again_with_newer_firmware_too(
    place: Place, meter: ThorlabsPM100D, same: str
) -> None:
    place.replace_by(same)
    assert after_a_loss(meter) == 1.5e-3
    assert place.heard[0] == b"*IDN?"
    assert meter.power_w() == 1.5e-3
    assert place.heard.count(b"*IDN?") == 1, "asked once for a connection"


@pytest.mark.parametrize(
    ("other", "got"),
    [
        ("THORLABS,PM100D,P0000002,2.7.0", "got PM100D with serial number 'P0000002'"),
        ("THORLABS,PM400,P0000001,2.7.0", "got no such instrument .*PM400"),
    ],
)
def test_another_instrument_is_refused_by_both_numbers_address_and_command(
    place: Place, meter: ThorlabsPM100D, other: str, got: str
) -> None:
    place.replace_by(other)
    known = rf"tap: another instrument answers at {place.peer.address} .*'P0000001', {got}"
    with pytest.raises(OtherInstrumentError, match=rf"{known}.*\(command '.*POW\?'\)"):
        after_a_loss(meter)
    with pytest.raises(OtherInstrumentError, match=known):
        meter.set_wavelength(1550e-9)
    assert set(place.heard) <= {b"*IDN?", b"SYST:ERR?"}, "nothing but questions who answers"


def test_the_one_that_was_there_before_may_come_back(place: Place, meter: ThorlabsPM100D) -> None:
    place.replace_by("THORLABS,PM100D,P0000002,2.7.0")
    with pytest.raises(OtherInstrumentError):
        after_a_loss(meter)
    place.replace_by("THORLABS,PM100D,P0000001,2.7.0")
    assert after_a_loss(meter) == 1.5e-3


def test_one_wrong_reply_is_not_taken_for_another_instrument(
    place: Place, meter: ThorlabsPM100D
) -> None:
    place.replace_by("THORLABS,PM100D,P0000009,2.7.0", "THORLABS,PM100D,P0000001,2.7.0")
    assert after_a_loss(meter) == 1.5e-3


def test_a_record_has_the_refusal_and_a_replay_repeats_it(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "wire.jsonl"
    monkeypatch.setenv(RECORD, str(record))
    meter = place.open()
    assert meter.power_w() == 1.5e-3
    place.replace_by("THORLABS,PM100D,P0000002,2.7.0")
    with pytest.raises(OtherInstrumentError) as refused:
        after_a_loss(meter)
    meter.close()
    monkeypatch.delenv(RECORD)
    monkeypatch.setenv(REPLAY, str(record))
    again = place.open()
    assert again.power_w() == 1.5e-3
    with pytest.raises(OtherInstrumentError) as replayed:
        after_a_loss(again)
    again.close()
    assert str(replayed.value) == str(refused.value)
