"""One instrument has one address, however it is spelled."""

from __future__ import annotations

import pytest

from labctl.addresses import canonical


@pytest.mark.parametrize(
    "spellings",
    [
        ("ASRL2::INSTR", "ASRL2", "asrl2::instr", "COM2", "ASRLCOM2::INSTR", "ASRL02"),
        ("ASRL/dev/ttyUSB0::INSTR", "asrl/dev/ttyUSB0"),
        ("TCPIP0::scope::hislip0::INSTR", "TCPIP::SCOPE::hislip0,4880"),
        ("TCPIP0::10.1.1.1::inst0::INSTR", "TCPIP::10.1.1.1", "tcpip0::10.1.1.1::INSTR"),
        ("TCPIP0::10.1.1.1::5000::SOCKET", "tcpip::10.1.1.1::5000::socket"),
        ("USB0::0x1313::0x8078::P1::INSTR", "USB::4883::32888::P1", "USB0::4883::0X8078::p1::0"),
        ("GPIB0::5::INSTR", "GPIB::5", "GPIB0::05"),
    ],
)
def test_all_spellings_of_an_address_are_one(spellings: tuple[str, ...]) -> None:
    assert len({canonical(spelling) for spelling in spellings}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ASRL2", "ASRL3"),
        ("ASRL/dev/ttyA", "ASRL/dev/ttya"),
        ("TCPIP::a::5000::SOCKET", "TCPIP::a::5001::SOCKET"),
        ("TCPIP::a::inst0", "TCPIP::a::inst1"),
        ("TCPIP::a::hislip0", "TCPIP::a::hislip0,4881"),
        ("USB::4883::32888::P1", "USB::4883::32888::P2"),
        ("USB::1313::8078::P1", "USB::0x1313::0x8078::P1"),
        ("GPIB::5", "GPIB1::5"),
    ],
)
def test_two_instruments_have_two_addresses(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


def test_what_is_no_visa_address_stays_as_it_is() -> None:
    assert canonical("A::1") == "A::1"
