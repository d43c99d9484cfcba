"""The page on the protocol says what the code computes: known answers, checks, names of methods."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import get_args

import pytest

from labctl.protocols import messages
from labctl.protocols.leakage import (
    data_bits_first,
    data_bits_journal,
    data_bits_quantum,
    holevo_bits_per_mode,
)
from labctl.protocols.receiver import (
    BEST_GAIN,
    IDEAL_HOMODYNE,
    CloneReceiver,
    Homodyne,
    TapReceiver,
    added_noise,
)
from labctl.protocols.states import CLIENT, SERVER, Event, Own, PartyState, Table
from labctl.protocols.verification.checks import SHARES
from labctl.units import db_to_ratio

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
TEXT = PAGE.read_text(encoding="utf-8")
MODES, ROWS = 392, 794


def known_answers() -> list[list[str]]:
    table = TEXT.split("## Known answers")[1].split("##")[0]
    rows = re.findall(r"^\| (\d.*) \|$", table, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def agrees(written: str, value: float) -> bool:
    """Return whether a value rounds to what is written, to its digits."""
    digits = len(written.replace(".", "").lstrip("0"))
    return written == f"{float(f'{value:.{digits}g}'):g}"


def test_there_are_known_answers() -> None:
    assert len(known_answers()) == 5


@pytest.mark.parametrize("row", known_answers(), ids="-".join)
def test_a_known_answer_is_what_the_code_computes(row: list[str]) -> None:
    mu, gain, loss, *written = row
    transmittance = db_to_ratio(-float(loss.removesuffix(" dB"))) if "dB" in loss else float(loss)
    bits = holevo_bits_per_mode(float(mu), transmittance, added_noise(float(gain)) / MODES)
    values = [
        bits,
        bits / 2.0,
        data_bits_first(float(gain), MODES),
        data_bits_journal(float(gain), MODES, ROWS),
        data_bits_quantum(float(gain), MODES, ROWS),
    ]
    assert written[0]
    for said, value in zip(written, values, strict=True):
        assert not said or agrees(said, value), (said, value)


@pytest.mark.parametrize(
    ("gain", "factor", "eta", "noise"), [(2.0, 1.0, 1.0, 0.0), (1.3, 1.5, 0.8, 0.1)]
)
def test_the_clone_has_the_variances_of_the_page(
    gain: float, factor: float, eta: float, noise: float
) -> None:
    clone = CloneReceiver(gain, factor, Homodyne(eta, noise))
    arm = (gain - 1) + (2 * factor - 1) * (gain - 1) ** 2 / gain + 1 / gain
    variance = eta * arm + 1 - eta + noise
    assert clone.measured_noise == pytest.approx(variance)
    assert clone.returned_noise == pytest.approx(factor * (2 - 2 / gain))
    referred = variance / (eta * (gain - 1))
    assert clone.signal_to_noise(4.0, 0.5) == pytest.approx(2 * 4.0 * 0.5 / referred)
    tap = TapReceiver.of_gain(gain, Homodyne(eta, noise))
    tau = 1 / (2 * gain - 1) ** 2
    assert tap.referred_noise == pytest.approx(2 * (1 + noise) / (eta * (1 - tau)))
    assert tap.emission_factor == pytest.approx((1 + noise) / eta)
    assert tap.returned_noise == pytest.approx(tap.emission_factor * added_noise(gain))


def test_the_least_referred_noise_is_that_of_the_page() -> None:
    best = CloneReceiver(BEST_GAIN, 1.0, IDEAL_HOMODYNE)
    assert best.referred_noise == pytest.approx(1.828, abs=5e-4)
    assert pytest.approx(2 + math.sqrt(2)) == BEST_GAIN
    for gain in (BEST_GAIN * 0.99, BEST_GAIN * 1.01):
        assert CloneReceiver(gain, 1.0, IDEAL_HOMODYNE).referred_noise > best.referred_noise


def test_the_checks_of_the_page_are_those_of_the_verdict() -> None:
    listed = re.search(r"Checks: ([^.]+)\.", TEXT)
    assert listed is not None
    assert {name.strip() for name in " ".join(listed[1].split()).split(",")} == set(SHARES)


def event_named(name: str) -> Event:
    return Own(name.strip("*")) if name.startswith("*") else getattr(messages, name.strip("`"))


@pytest.mark.parametrize(("which", "table"), [(0, SERVER), (1, CLIENT)], ids=["server", "client"])
def test_the_states_of_the_page_are_those_of_the_machines(which: int, table: Table) -> None:
    """Every way in a table is on the page, and nothing else is."""
    part = TEXT.split("| state | event | next |")[which + 1].split("\n\n")[0]
    written: dict[tuple[PartyState, Event], set[PartyState]] = {}
    for row in re.findall(r"^\| ([^-|].*) \|$", part, re.MULTILINE):
        state, names, following = (cell.strip() for cell in row.split("|"))
        before = [each for each in PartyState if re.match(rf"{each}(,|$)", state)]
        if state.startswith("any but closed"):
            before = [each for each in table if table[each]]
        after = {
            PartyState(re.split("[;:,]", each)[0].strip()) for each in following.split("; or ")
        }
        for name in names.split(", "):
            for each in before:
                written[each, event_named(name)] = after
    drawn = {
        (state, event): set(after) for state, ways in table.items() for event, after in ways.items()
    }
    # A guard that refuses aborts by itself.
    if table is CLIENT:
        drawn[PartyState.ARMED, Own.LIGHT_ARRIVED].add(PartyState.ABORTED)
    assert written == drawn


def test_the_messages_of_the_page_are_all_there_are() -> None:
    part = TEXT.split("| message | from | says |")[1].split("\n\n")[0]
    named = set(re.findall(r"^\| `(\w+)`", part, re.MULTILINE))
    assert named == {kind.__name__ for kind in get_args(messages.Message)}
