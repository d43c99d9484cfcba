"""One measured curve answers how often labels are read, and how often an image may be sent."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.errors import SettingError, StationFileError
from labctl.protocols.labels.curve import CurveFile, LabelCurve, load_curves, repeats_within
from labctl.protocols.labels.reading import Detection, Reading
from labctl.studies.attacks.label_curve import measure_curves
from labctl.studies.attacks.label_reading import label_success

STEPS = LabelCurve(
    Detection.HOMODYNE, (1.0, 2.0, 4.0, 8.0), (0.2, 0.3, 0.28, 0.6), (0.01, 0.01, 0.01, 0.01), 0.1
)
ONCE = Reading(gain=1.02, rows=784)


def test_measured_points_come_back_and_disorder_is_averaged() -> None:
    assert STEPS.at_evidence(1.0).share == pytest.approx(0.2)
    assert STEPS.at_evidence(2.0).share == pytest.approx(0.29)
    assert STEPS.at_evidence(4.0).share == pytest.approx(0.29)
    assert STEPS.at_evidence(8.0).share == pytest.approx(0.6)
    assert STEPS.at_evidence(1.0).standard_error == pytest.approx(0.01)


def test_no_evidence_is_chance_and_beyond_the_last_point_is_the_last_point() -> None:
    assert STEPS.at_evidence(0.0).share == pytest.approx(0.1)
    assert STEPS.at_evidence(1e9).share == pytest.approx(0.6)


@given(st.floats(0.0, 1e3), st.floats(0.0, 1e3))
@settings(deadline=None)
def test_more_evidence_never_reads_less(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert STEPS.at_evidence(low).share <= STEPS.at_evidence(high).share + 1e-12


@given(st.floats(0.12, 0.59), st.floats(0.0, 3.0))
@settings(deadline=None)
def test_the_most_evidence_within_a_bound_just_keeps_it(bound: float, sigmas: float) -> None:
    evidence = STEPS.evidence_within(bound, sigmas)
    found = STEPS.at_evidence(evidence)
    if evidence > 0.0:
        assert found.share + sigmas * found.standard_error <= bound
    beyond = STEPS.at_evidence(evidence * 1.001 + 1e-6)
    assert beyond.share + sigmas * beyond.standard_error > bound


def test_a_bound_next_to_chance_allows_nothing_one_above_all_points_the_last() -> None:
    assert STEPS.evidence_within(0.1) == 0.0
    assert STEPS.evidence_within(0.99) == 8.0
    assert STEPS.repeats_within(0.1, ONCE) == 0


@pytest.mark.parametrize("receiver", list(Detection))
@pytest.mark.parametrize("bound", [0.15, 0.3, 0.7])
def test_repeats_within_a_bound_meet_it(receiver: Detection, bound: float) -> None:
    curve = load_curves().curve(receiver)
    reading = replace(ONCE, receiver=receiver, gain=1.005, transmittance=0.8, technical_noise=0.0)
    evidence = curve.evidence_within(bound)
    repeats = curve.repeats_within(bound, reading)
    for count, allowed in ((repeats, True), (repeats + 1, False)):
        inside = count == 0 or replace(reading, repeats=count).evidence <= evidence * (1 + 1e-9)
        assert inside is allowed


def test_weak_kicks_trade_rows_for_repeats_and_gain_squared() -> None:
    """M R g^2 is what counts; for photons M R g."""
    once = ONCE.evidence
    assert replace(ONCE, rows=392, repeats=2).evidence == pytest.approx(once)
    half = 2.0 / (2.0 - (2.0 - 2.0 / 1.02) / 2.0)
    assert replace(ONCE, gain=half, repeats=4).evidence == pytest.approx(once, rel=0.03)
    counting = replace(ONCE, receiver=Detection.COUNTING)
    assert replace(counting, gain=half, repeats=2).evidence == pytest.approx(counting.evidence)


def test_the_shipped_curve_says_what_a_fresh_attack_finds() -> None:
    """Same evidence from few strong or many weak kicks: 250 images, 3000 templates, four errors.

    Fewer templates than the shipped curve's 60,000 read a little less.
    """
    digits = load_test_images()
    for gain, rows in ((1.4, 300), (1.05, 8000)):
        reading = Reading(gain=gain, rows=rows)
        expected = load_curves().curve(Detection.HOMODYNE).at(reading)
        found = label_success(
            digits.images[:250], digits.labels[:250], digits.images[6000:9000],
            digits.labels[6000:9000], gain=gain, rows=rows, seed=2,
        )  # fmt: skip
        assert found.label_success == pytest.approx(expected.share, abs=4 * 0.031 + 0.03)
        assert found.label_success is not None
        assert found.label_success > 0.4


def test_quotas_of_the_shipped_curve_shrink_with_gain_and_grow_with_the_bound() -> None:
    quotas = [repeats_within(0.2, gain, 784) for gain in (1.002, 1.005, 1.01, 1.02)]
    assert quotas == sorted(quotas, reverse=True)
    assert quotas[0] > 100
    assert repeats_within(0.3, 1.01, 784) > repeats_within(0.2, 1.01, 784)
    assert repeats_within(0.2, 1.01, 784, receiver=Detection.COUNTING) == 0
    assert repeats_within(0.2, 1.01, 784, transmittance=0.5) > repeats_within(0.2, 1.01, 784)


def test_a_curve_is_measured_written_and_read_again(tmp_path: Path) -> None:
    digits = load_test_images()
    told: list[float] = []
    found = measure_curves(
        LabelledImages(digits.images[:60], digits.labels[:60]),
        LabelledImages(digits.images[100:500], digits.labels[100:500]),
        seed=3,
        command='labctl "quoted"',
        described=("400 images", "60 images"),
        evidence={Detection.HOMODYNE: (1.0, 300.0), Detection.COUNTING: (100.0,)},
        dimensions=16,
        on_point=lambda point: told.append(point.evidence),
    )
    path = tmp_path / "curve.toml"
    path.write_text(found.toml(), encoding="utf-8")
    assert load_curves(path) == found
    assert told == pytest.approx([1.0, 300.0, 100.0], rel=0.02)
    low, high = found.curve(Detection.HOMODYNE).success
    assert high > low + 0.3
    with pytest.raises(SettingError, match="receiver"):
        found.curve(Detection.HETERODYNE)


def test_the_shipped_file_names_its_origin() -> None:
    shipped = load_curves()
    assert "label-attack --write-curve" in shipped.command
    for receiver in Detection:
        curve = shipped.curve(receiver)
        assert np.all(np.diff(curve.evidence) > 0.0)
        assert curve.success[0] < 0.16
        assert curve.success[-1] > 0.8


@pytest.mark.parametrize(
    "change",
    [{"block_modes": 8}, {"receiver": Detection.COUNTING}],
)
def test_what_was_not_measured_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=r"measured|homodyne"):
        STEPS.at(replace(ONCE, **change))


def test_a_counter_with_background_was_not_measured() -> None:
    curve = load_curves().curve(Detection.COUNTING)
    reading = replace(ONCE, receiver=Detection.COUNTING, background_photons=0.1)
    with pytest.raises(SettingError, match="background"):
        curve.repeats_within(0.2, reading)


@pytest.mark.parametrize("bound", [0.0, 1.0, -1.0, math.nan])
def test_a_bound_is_a_share(bound: float) -> None:
    with pytest.raises(SettingError, match="bound"):
        STEPS.evidence_within(bound)
    with pytest.raises(SettingError, match="sigmas"):
        STEPS.evidence_within(0.2, -1.0)


def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "curve.toml"
    path.write_text(load_curves().toml().replace("success", "succes"), encoding="utf-8")
    with pytest.raises(StationFileError, match=r"curve\.toml:\d+: unknown key"):
        load_curves(path)
    assert CurveFile.model_validate(load_curves().model_dump()) == load_curves()
