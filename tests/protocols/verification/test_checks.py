"""Each check by itself: what it catches that the pooled ones miss, and that honest light passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.link import LayerLight, MonitorReading, ReturnedLight
from labctl.protocols.verification.channel import Expectation, estimate_channel
from labctl.protocols.verification.checks import SHARES, CheckResult, run_checks
from labctl.protocols.verification.collective_record import collective_sums, record_of
from labctl.protocols.verification.evidence import LayerEvidence

Doubles = NDArray[np.float64]

ROWS, MODES, IMAGES = 120, 40, 6
MEAN_PHOTONS = 4.0
CALIBRATION = ReceiverCalibration(
    efficiency=1.0, electronic_noise=0.0, blocked_variance=1.0, samples=10**7
)
WATCHED = MonitorReading(1.0, 10**6)
CLONE = 0.8
EXPECTED = Expectation(1.0, CLONE / MODES, clone_noise=CLONE)


@dataclass(frozen=True)
class Reading:
    """One image as it is read: what was sent in the quadratures read, and the readings."""

    sent: Doubles
    read: Doubles
    cosine: Doubles


Tamper = Callable[[Reading, np.random.Generator], Doubles]


def untouched(reading: Reading, random: np.random.Generator) -> Doubles:
    return reading.read


def light_of(seed: int, block_modes: int | None = None) -> LayerLight:
    random = np.random.default_rng(seed)
    sent = math.sqrt(2.0 * MEAN_PHOTONS) * random.normal(size=(ROWS, 2 * MODES))
    return LayerLight(0, sent.astype(np.float32), block_modes)


def evidence_of(
    tamper: Tamper = untouched,
    *,
    seed: int = 1,
    coefficients: Doubles | None = None,
    block_modes: int | None = None,
) -> LayerEvidence:
    """Return the evidence of an honest client's images, each after `tamper`.

    `coefficients` (blocks, n), complex, unit norm: the modes that the client clones.
    """
    random = np.random.default_rng(seed)
    light = light_of(seed + 1000, block_modes)
    found = LayerEvidence(light)
    flat = np.full((1, MODES), math.sqrt(1.0 / MODES))
    modes = flat if coefficients is None else coefficients
    for _ in range(IMAGES):
        cosine = (random.random((ROWS, 1)) < 0.5).astype(np.float64)
        sent = cosine * light.x + (1.0 - cosine) * light.p
        kicks = math.sqrt(CLONE) * random.normal(size=(2, ROWS, len(modes)))
        # X of the returned mode shows Re c of the kick in X, -Im c of that in P.
        clones = kicks[0] @ modes.real + kicks[1] @ modes.imag
        read = sent + random.normal(size=sent.shape) + clones
        read = tamper(Reading(sent, read, cosine), random)
        found.add(
            ReturnedLight(
                read.astype(np.float32),
                cosine.astype(np.float32),
                (1.0 - cosine).astype(np.float32),
            )
        )
    return found


def checked(
    evidence: LayerEvidence,
    expected: Expectation = EXPECTED,
    probability: float = 1e-6,
    monitor: MonitorReading | None = WATCHED,
    calibration: ReceiverCalibration = CALIBRATION,
) -> dict[str, CheckResult]:
    estimate = estimate_channel([evidence], calibration)
    record = record_of([evidence], calibration, expected, MEAN_PHOTONS)
    sums = collective_sums([evidence], record)
    found = run_checks([evidence], estimate, calibration, expected, probability, monitor, sums)
    return {check.name: check for check in found}


def failed(checks: dict[str, CheckResult]) -> set[str]:
    return {name for name, check in checks.items() if check.passed is False}


# Attacks that single checks are there for.


def noisy_row(reading: Reading, random: np.random.Generator) -> Doubles:
    """Row 17 read in both quadratures and sent again: 2 SNU, 0.017 SNU of all light."""
    read = reading.read.copy()
    read[17] += math.sqrt(2.0) * random.normal(size=MODES)
    return read


def noisy_mode(reading: Reading, random: np.random.Generator) -> Doubles:
    read = reading.read.copy()
    read[:, 5] += math.sqrt(2.0) * random.normal(size=ROWS)
    return read


def weak_row(reading: Reading, random: np.random.Generator) -> Doubles:
    read = reading.read.copy()
    read[3] -= 0.4 * reading.sent[3]
    return read


def strong_mode(reading: Reading, random: np.random.Generator) -> Doubles:
    read = reading.read.copy()
    read[:, 9] += 0.3 * reading.sent[:, 9]
    return read


def injected(reading: Reading, random: np.random.Generator) -> Doubles:
    """Light of 0.06 photons per mode on P."""
    return reading.read + 0.25 * (1.0 - reading.cosine)


def amplified(reading: Reading, random: np.random.Generator) -> Doubles:
    return reading.read + 0.05 * reading.sent


def tapped(reading: Reading, random: np.random.Generator) -> Doubles:
    return reading.read - 0.05 * reading.sent


def loud(reading: Reading, random: np.random.Generator) -> Doubles:
    return reading.read + 0.5 * random.normal(size=reading.read.shape)


@pytest.mark.parametrize(
    ("tamper", "check", "place"),
    [
        (noisy_row, "row noise", "row 18 of layer 1"),
        (noisy_mode, "mode noise", "mode 6 of layer 1"),
        (weak_row, "row gain", "row 4 of layer 1"),
        (strong_mode, "mode gain", "mode 10 of layer 1"),
        (injected, "offset", "P of layer 1"),
        (amplified, "high gain", "transmittance"),
        (tapped, "low gain", "transmittance"),
        (loud, "pooled noise", "excess noise"),
    ],
)
def test_each_check_finds_and_names_what_it_is_for(tamper: Tamper, check: str, place: str) -> None:
    found = checked(evidence_of(tamper))
    assert check in failed(found)
    assert place in found[check].sentence
    assert "honest use explains" in found[check].sentence
    p_value = found[check].p_value
    assert p_value is not None
    assert p_value < found[check].false_alarm_probability


@pytest.mark.parametrize("tamper", [noisy_row, weak_row, injected])
def test_the_pooled_checks_alone_would_miss_it(tamper: Tamper) -> None:
    found = failed(checked(evidence_of(tamper)))
    assert found
    assert not found & {"pooled noise", "low gain", "high gain"}


def test_neighbouring_modes_are_found_together() -> None:
    """Eight modes with 0.35 SNU each: every single one might be a clone's."""

    def slightly(reading: Reading, random: np.random.Generator) -> Doubles:
        read = reading.read.copy()
        read[:, 8:16] += math.sqrt(0.35) * random.normal(size=(ROWS, 8))
        return read

    found = checked(evidence_of(slightly))["mode noise"]
    assert found.passed is False
    assert "modes 9 to 16" in found.sentence


@pytest.mark.parametrize("ratio", [0.98, 1.02])
def test_a_local_oscillator_turned_after_the_calibration_is_found(ratio: float) -> None:
    found = checked(evidence_of(), monitor=MonitorReading(ratio, 10**6))
    assert failed(found) == {"shot noise"}
    assert f"{ratio:.5f}" in found["shot noise"].sentence


# Honest light, for any data of the client.


def one_mode() -> Doubles:
    modes = np.zeros((1, MODES), np.complex128)
    modes[0, 7] = 1.0
    return modes.real


def complex_modes() -> Doubles:
    random = np.random.default_rng(5)
    modes = random.normal(size=(1, MODES)) + 1j * random.normal(size=(1, MODES))
    return np.asarray(modes / np.linalg.norm(modes))


def one_mode_of_each_block() -> Doubles:
    modes = np.zeros((5, MODES))
    modes[np.arange(5), 8 * np.arange(5) + 7] = 1.0
    return modes


@pytest.mark.parametrize(
    ("coefficients", "block_modes"),
    [(None, None), (one_mode(), None), (complex_modes(), None), (one_mode_of_each_block(), 8)],
    ids=["flat", "one mode", "complex", "blocks"],
)
def test_no_choice_of_the_client_s_raises_alarms_beyond_the_stated(
    coefficients: Doubles | None, block_modes: int | None
) -> None:
    """100 sessions at 5 %: 5 expected at most, 13 is four errors more."""
    blocks = 5 if block_modes else 1
    expected = replace(EXPECTED, excess_noise=blocks * CLONE / MODES)
    alarms: list[str] = []
    for seed in range(100):
        evidence = evidence_of(seed=seed, coefficients=coefficients, block_modes=block_modes)
        alarms += list(failed(checked(evidence, expected, 0.05)))[:1]
    assert len(alarms) <= 13


def test_without_allowance_for_the_clone_one_loud_mode_would_be_an_alarm() -> None:
    evidence = evidence_of(coefficients=one_mode())
    assert not failed(checked(evidence))
    blind = replace(EXPECTED, clone_noise=0.0)
    assert "mode noise" in failed(checked(evidence, blind))


def test_gains_that_an_honest_link_may_have_are_no_alarm() -> None:
    def uneven(reading: Reading, random: np.random.Generator) -> Doubles:
        pattern = 0.25 * np.sin(np.arange(MODES))
        return np.asarray(reading.read + pattern * reading.sent)

    evidence = evidence_of(uneven)
    assert "mode gain" in failed(checked(evidence))
    tolerant = replace(EXPECTED, gain_uncertainty=0.15)
    assert "mode gain" not in failed(checked(evidence, tolerant))


# Shares.


def test_shares_add_up_to_the_stated_probability() -> None:
    assert sum(SHARES.values()) == pytest.approx(1.0, rel=1e-12)
    found = checked(evidence_of(), probability=1e-3)
    assert found.keys() == SHARES.keys()
    total = sum(check.false_alarm_probability for check in found.values())
    assert total == pytest.approx(1e-3, rel=1e-12)


def test_what_cannot_be_checked_says_so_and_leaves_its_share() -> None:
    evidence = evidence_of()
    light = light_of(1001)
    centred = ReturnedLight(
        light.x,
        np.ones((ROWS, 1), np.float32),
        np.zeros((ROWS, 1), np.float32),
        offset_removed=True,
    )
    evidence.add(centred)
    found = checked(evidence, probability=1e-3, monitor=None)
    for name in ("shot noise", "offset"):
        assert found[name].passed is None
        assert found[name].p_value is None
        assert "not checked" in found[name].sentence
    total = sum(check.false_alarm_probability for check in found.values())
    assert total == pytest.approx(1e-3, rel=1e-12)


@pytest.mark.parametrize("probability", [0.2, 1e-3, 1e-9])
def test_statistic_beyond_threshold_and_p_value_below_share_are_the_same(
    probability: float,
) -> None:
    for tamper in (untouched, noisy_row, weak_row, tapped, amplified, injected):
        for name, check in checked(evidence_of(tamper), probability=probability).items():
            assert check.statistic is not None
            assert check.threshold is not None
            below = name == "low gain" or (name == "shot noise" and check.statistic < 1.0)
            inside = (
                check.statistic >= check.threshold if below else check.statistic <= check.threshold
            )
            assert inside == check.passed, name


# Sums.


def test_sums_by_row_and_mode_are_those_of_the_readings() -> None:
    random = np.random.default_rng(8)
    light = LayerLight(0, random.normal(size=(250, 14)).astype(np.float32))
    evidence = LayerEvidence(light)
    sent, read = [], []
    for _ in range(3):
        angle = random.uniform(0.0, 7.0, (250, 1)).astype(np.float32)
        cosine, sine = np.cos(angle), np.sin(angle)
        expected = cosine * light.x + sine * light.p
        values = (0.8 * expected + random.normal(size=expected.shape)).astype(np.float32)
        evidence.add(ReturnedLight(values, cosine, sine))
        sent.append(expected.astype(np.float64))
        read.append(values.astype(np.float64))
    e, y = np.stack(sent), np.stack(read)
    for sums, over in ((evidence.row_sums(), (0, 2)), (evidence.mode_sums(), (0, 1))):
        power, cross = np.sum(e * e, axis=over), np.sum(e * y, axis=over)
        residual = np.sum(y * y, axis=over) - cross**2 / power
        assert np.allclose(sums.sent, power, rtol=1e-5)
        assert np.allclose(sums.cross, cross, rtol=1e-4, atol=1e-2)
        assert np.allclose(sums.residual, residual, rtol=1e-4)
        assert sums.samples * len(sums.sent) == evidence.samples


def test_the_strongest_direction_bounds_every_client() -> None:
    random = np.random.default_rng(9)
    light = LayerLight(0, random.normal(size=(20, 24)).astype(np.float32), 5)
    bound = LayerEvidence(light).strongest_direction
    for _ in range(200):
        total = 0.0
        for columns in light.blocks.slices():
            size = columns.stop - columns.start
            mode = random.normal(size=(2, size))
            mode /= np.linalg.norm(mode)
            # A row read on X shows (Re c, Im c), one read on P (Im c, -Re c).
            on_x = random.random(20) < 0.5
            sent = np.where(on_x[:, None], light.x[:, columns], light.p[:, columns])
            total += float(np.sum((sent @ mode.T) ** 2))
        assert total <= bound * (1.0 + 1e-6)
