"""Leakage against width, loss and noise: known answers, and what may never cross."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import SettingError
from labctl.protocols.leakage import data_bits_journal
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.studies.reproduce import leakage, noise
from labctl.studies.reproduce.figure import Origin, Reproduction, Series
from labctl.studies.reproduce.files import section
from labctl.studies.reproduce.ours import gain_of_data_bits, leakage_at, operating_settings

_PAGE = Path(__file__).parents[3] / "docs" / "reproduction.md"


def series_of(figure: Reproduction, panel: int, label: str) -> Series:
    found = [one for one in figure.panels[panel].series if one.label == label]
    assert len(found) == 1, [one.label for one in figure.panels[panel].series]
    return found[0]


def difference(figure: Reproduction, what: str, where: str = "") -> tuple[float, float]:
    found = [one for one in figure.differences if what in one.what and where in one.where]
    assert len(found) == 1, [(one.what, one.where) for one in found]
    return found[0].published, found[0].here


def slope(series: Series) -> float:
    """Return the exponent of a power law from end to end."""
    rise = math.log(series.y[-1] / series.y[0])
    return rise / math.log(series.x[-1] / series.x[0])


def test_width_differences_are_the_known_answers() -> None:
    figure = leakage.against_width()
    assert difference(figure, "per mode, called") == pytest.approx((0.0874, 0.0437), abs=5e-5)
    assert difference(figure, "entropy of") == pytest.approx((2.0202, 0.0874), abs=5e-5)
    assert difference(figure, "data: first version") == pytest.approx((0.00725, 0.5), abs=5e-6)
    # M/n = 1 and 2 with g = 0.4615: g^2/(1 + g) = 0.1457.
    assert difference(figure, "M/n = 784/N") == pytest.approx(
        (0.5 * math.log2(1.1457), 0.5 * math.log2(1.2915)), abs=5e-5
    )
    assert difference(figure, "M = 794") == pytest.approx((0.505, 0.5), abs=5e-4)
    assert difference(figure, "any receiver") == pytest.approx((0.5, 0.5 * math.log2(3.0)))


def test_with_as_many_rows_as_neurons_the_data_leakage_does_not_fall_with_the_width() -> None:
    figure = leakage.against_width()
    first = series_of(figure, 1, "theirs, first version, G = 2")
    assert slope(first) == pytest.approx(-1.0, abs=0.05)
    # The journal's scripts hold 784 rows: for wide layers I_x goes as 784/N.
    held = series_of(figure, 1, "theirs, journal, G = 1.3, 784/N")
    assert held.y[-1] / held.y[-2] == pytest.approx(held.x[-2] / held.x[-1], rel=0.01)
    for label in ("journal, ours too, G = 1.3, M/n = 2", "any receiver, G = 1.3, M/n = 2"):
        assert np.ptp(series_of(figure, 1, label).y) == pytest.approx(0.0, abs=1e-12)


def test_weights_leak_nearly_in_inverse_proportion_to_the_width() -> None:
    figure = leakage.against_width()
    for series in figure.panels[0].series:
        # n h(1 + eps) goes as log n: a little slower than 1/n.
        assert -1.0 < slope(series) < -0.75
    theirs = series_of(figure, 0, "theirs, first, μ = 4, G = 2")
    at_784 = np.interp(math.log(784), np.log(theirs.x), np.log(theirs.y))
    assert math.exp(float(at_784)) == pytest.approx(0.0437, rel=2e-3)


def test_root_of_the_transmittance_makes_untrusted_loss_look_better() -> None:
    figure = leakage.against_loss()
    theirs = np.array(series_of(figure, 0, "theirs, weights, journal").y)
    untrusted = np.array(series_of(figure, 0, "journal, η for √η, loss untrusted").y)
    trusted = np.array(series_of(figure, 0, "journal, η for √η, loss trusted").y)
    assert np.all(theirs[1:] < untrusted[1:])
    assert np.all(trusted[1:] < theirs[1:])
    # At no loss nothing is left to differ but their 748 neurons.
    assert theirs[0] == pytest.approx(untrusted[0])
    assert theirs[0] / trusted[0] == pytest.approx(784 / 748, rel=0.01)


@pytest.mark.parametrize(
    ("version", "loss_db", "root", "eta"),
    [
        ("first", "3 dB", 1.0815, 1.3764),
        ("journal", "1 dB", 0.9163, 1.2406),
        ("journal", "3 dB", 1.7247, 2.0704),
    ],
)
def test_loss_by_their_scripts_is_the_known_answer(
    version: str, loss_db: str, root: float, eta: float
) -> None:
    found = difference(leakage.against_loss(), f"{version}: √η in place", loss_db)
    assert found == pytest.approx((root, eta), abs=5e-5)


def test_the_journals_panel_is_its_scripts_formula_over_loss_and_noise() -> None:
    colours = noise.against_noise().panels[0].colours
    assert colours is not None
    assert (colours.x[0], colours.x[-1]) == (0.0, 3.0)
    assert (colours.y[0], colours.y[-1]) == (0.0, 0.2)
    values = np.array(colours.values)
    assert np.all(np.diff(values, axis=0) > 0.0)
    assert np.all(np.diff(values, axis=1) > 0.0)
    assert values[0, 0] == pytest.approx(0.0339, abs=5e-5)
    assert values[0, -1] == pytest.approx(1.7247, abs=5e-5)
    assert values[-1, 0] == pytest.approx(1.1536, abs=5e-5)
    assert values[-1, -1] == pytest.approx(2.1140, abs=5e-5)
    assert colours.y[6] == pytest.approx(0.02)
    assert values[6, 0] == pytest.approx(0.3142, abs=5e-5)


def test_loss_trusted_or_not_at_our_operating_point() -> None:
    figure = leakage.against_loss()
    for setting in operating_settings():
        gain = f"G = {setting.gain:g}"
        worst = series_of(figure, 1, f"ours, weights, {gain}, loss untrusted")
        best = series_of(figure, 1, f"ours, weights, {gain}, loss trusted")
        lossless = leakage_at(setting).weights_bits_per_real
        assert worst.y[0] == pytest.approx(lossless)
        assert best.y[0] == pytest.approx(lossless)
        assert all(b < w for w, b in zip(worst.y[1:], best.y[1:], strict=True))


@pytest.mark.parametrize("loss_db", [0.0, 2.0, 8.0])
def test_light_makes_up_for_the_loss_on_the_way_to_the_client(loss_db: float) -> None:
    held = leakage._held(1.3, loss_db)
    receiver = CloneReceiver(1.3, 1.0, IDEAL_HOMODYNE)
    leg = 10.0 ** (-loss_db / 20.0)
    assert receiver.signal_to_noise(held.mean_photons, leg) == pytest.approx(0.3)


def test_untrusted_noise_rises_and_trusted_noise_costs_nothing() -> None:
    figure = noise.against_noise()
    for panel in figure.panels:
        for series in panel.series:
            steps = np.diff(series.y)
            if "untrusted" in series.label:
                assert np.all(steps > 0.0), series.label
            else:
                assert np.ptp(series.y) == pytest.approx(0.0, abs=1e-12), series.label
    # With 748 neurons as in the script; with 784 it is 0.3136.
    assert difference(figure, "748 neurons") == pytest.approx((0.3142, 0.3136), abs=5e-5)
    assert difference(figure, "light times") == pytest.approx((0.3136, 0.3090), abs=6e-5)
    assert difference(figure, "untrusted, or trusted") == pytest.approx((0.3142, 0.0325), abs=5e-5)
    assert difference(figure, "√η", "3 dB") == pytest.approx((1.7917, 2.1097), abs=6e-5)


@settings(deadline=None)
@given(st.floats(1e-6, 0.85))
def test_gain_of_a_data_leakage(bits: float) -> None:
    gain = gain_of_data_bits(bits)
    assert gain > 1.0
    assert data_bits_journal(gain, 392, 784) == pytest.approx(bits, rel=1e-6)


@pytest.mark.parametrize("bits", [0.0, -1.0, 1.0, math.nan])
def test_no_gain_leaks_so_much(bits: float) -> None:
    with pytest.raises(SettingError, match="data bits"):
        gain_of_data_bits(bits)


@pytest.mark.parametrize(
    "figure", [leakage.against_width, leakage.against_loss, noise.against_noise]
)
def test_every_figure_says_what_it_assumes_and_whose_its_series_are(
    figure: Callable[[], Reproduction],
) -> None:
    made = figure()
    words = " ".join(made.assumptions)
    assert "Holevo" in words
    assert "noise" in words
    assert "loss" in words
    origins = {series.origin for panel in made.panels for series in panel.series}
    assert {Origin.THEIRS, Origin.OURS} <= origins
    for panel in made.panels:
        for axis in (panel.x, panel.y):
            assert "(" in axis.label or axis.label == "neurons per layer"
        styles = [(one.origin, one.variant, one.points) for one in panel.series if one.label]
        assert len(set(styles)) == len(styles)


@pytest.mark.parametrize(
    "figure", [leakage.against_width, leakage.against_loss, noise.against_noise]
)
def test_the_documentation_holds_what_the_closed_forms_say(
    figure: Callable[[], Reproduction],
) -> None:
    page = _PAGE.read_text(encoding="utf-8")
    assert section(figure()) in page, "labctl reproduce writes docs/reproduction.md again"
