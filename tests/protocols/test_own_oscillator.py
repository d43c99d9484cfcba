"""A client with its own laser at mode level: the closed forms, what is drawn, what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_laser import found_signal_to_noise

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import Network, load_network
from labctl.dsp.layout import PEAK
from labctl.dsp.pilot_variance import signal_to_noise_left
from labctl.errors import SettingError
from labctl.protocols.disguise import PLAIN
from labctl.protocols.encoding import Floats
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.own_oscillator import PILOT_RATIO, OwnOscillator
from labctl.protocols.receiver import CloneReceiver, Homodyne, TapReceiver
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.run.inference import run_inference
from labctl.run.request import ModeRun

ROWS, INPUTS = 400, 64
DETECTOR = Homodyne(0.8, 0.05)


def settings(
    oscillator: OwnOscillator | None,
    *,
    mean_photons: float = 8.9,
    sampling: Sampling = Sampling.MEASURED,
    block_modes: int | None = None,
) -> SessionSettings:
    homodyne = DETECTOR if oscillator is None else DETECTOR.heterodyne()
    return SessionSettings(
        light=Light(mean_photons, PLAIN),
        channel=Channel(loss_db=0.6, block_modes=block_modes),
        receiver=CloneReceiver(1.3, 1.0, homodyne),
        verifier=DETECTOR,
        assumptions=Assumptions(loss=Trust.TRUSTED, technical_noise=Trust.UNTRUSTED),
        sampling=sampling,
        seed=5,
        oscillator=oscillator,
    )


def network() -> Network:
    draw = np.random.default_rng(11)
    first = draw.normal(0.0, 1.0, (ROWS, INPUTS)).astype(np.float32)
    second = draw.normal(0.0, 1.0, (10, ROWS)).astype(np.float32)
    return Network((first, second), "small", {})


def images(count: int) -> Floats:
    return np.random.default_rng(12).random((count, INPUTS), dtype=np.float32)


def measured(agreed: SessionSettings, count: int = 60) -> Floats:
    session = Session(network(), agreed, ModeLink(agreed))
    return np.concatenate(
        [batch.measured[0] for batch in session.run(images(count), batch_images=20)]
    )


@pytest.mark.parametrize("sampling", Sampling)
@pytest.mark.parametrize("linewidth_hz", [100.0, 8000.0])
def test_values_have_the_f_that_is_stated(linewidth_hz: float, sampling: Sampling) -> None:
    """24,000 values: five standard errors of F near 1.8 are 6 %."""
    agreed = settings(OwnOscillator(linewidth_hz, 100.0), sampling=sampling, block_modes=32)
    values = measured(agreed)
    found = found_signal_to_noise(network(), images(len(values)), values)
    stated = agreed.signal_to_noise_of(INPUTS // 2)
    assert found == pytest.approx(stated, rel=0.06)
    assert stated < agreed.signal_to_noise


def test_what_is_stated_is_the_closed_forms_of_the_tracking() -> None:
    own = OwnOscillator(1000.0, 200.0)
    agreed = settings(own)
    row = own.row(INPUTS // 2)
    pilot = agreed.receiver.referred_noise / (
        4.0 * PILOT_RATIO * agreed.light.mean_photons * agreed.leg_transmittance
    )
    variance = row.residual_rad2(pilot) + row.within_rad2
    assert agreed.phase_rad2_of(INPUTS // 2) == pytest.approx(variance)
    assert agreed.signal_to_noise_of(INPUTS // 2) == pytest.approx(
        signal_to_noise_left(agreed.signal_to_noise, variance)
    )


def test_both_quadratures_halve_the_efficiency() -> None:
    assert DETECTOR.heterodyne() == Homodyne(0.4, 0.05)


def test_a_pilot_has_the_photons_of_the_benchs_pilots() -> None:
    """Unit field for a mean of 50 photons a mode: RMS 0.1 in X and in P."""
    assert pytest.approx(PEAK**2 / (2.0 * 0.1**2)) == PILOT_RATIO


def test_the_servers_light_draws_what_it_always_drew() -> None:
    plain = measured(settings(None), 3)
    assert np.array_equal(plain, measured(settings(None), 3))
    own = settings(OwnOscillator(0.0, 0.0))
    # Lasers without linewidth leave no phase; only the receiver differs.
    as_homodyne = replace(own, oscillator=None)
    assert np.allclose(measured(own, 3), measured(as_homodyne, 3), atol=1e-5)


def test_results_do_not_depend_on_batches() -> None:
    agreed = settings(OwnOscillator(1000.0, 100.0))
    runs = []
    for size in (1, 5):
        session = Session(network(), agreed, ModeLink(agreed))
        runs.append(
            np.concatenate(
                [batch.measured[0] for batch in session.run(images(5), batch_images=size)]
            )
        )
    assert np.allclose(runs[0], runs[1], rtol=1e-5, atol=1e-5)


@given(linewidth_hz=st.floats(1.0, 1e3), modes=st.integers(4, 100))
def test_wider_lasers_and_longer_rows_never_leave_less_phase(
    linewidth_hz: float, modes: int
) -> None:
    def left(hz: float, count: int) -> float:
        return OwnOscillator(hz, 10.0).phase_rad2(count, arriving_photons=5.0, referred_noise=9.0)

    assert left(1.1 * linewidth_hz, modes) > left(linewidth_hz, modes)
    assert left(linewidth_hz, modes + 1) > left(linewidth_hz, modes)


def test_smaller_blocks_allow_lasers_that_whole_rows_refuse() -> None:
    wide = OwnOscillator(30_000.0, 100.0)
    with pytest.raises(SettingError, match=r"linewidth_hz = 30000.*block_modes"):
        settings(wide).signal_to_noise_of(INPUTS // 2)
    assert settings(wide, block_modes=8).signal_to_noise_of(INPUTS // 2) > 1.0


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((-1.0, 100.0), "linewidth_hz"),
        ((100.0, math.inf), "signal_linewidth_hz"),
        ((math.nan, 100.0), "linewidth_hz"),
        ((100.0, 100.0, 0.0), "symbol_rate_hz"),
        ((100.0, 100.0, 2e7, -1.0), "pilot_ratio"),
    ],
)
def test_what_is_no_laser_is_refused(values: tuple[float, ...], named: str) -> None:
    with pytest.raises(SettingError, match=named):
        OwnOscillator(*values)


def test_what_needs_the_phase_beforehand_is_refused() -> None:
    agreed = settings(OwnOscillator(100.0, 100.0))
    with pytest.raises(SettingError, match=r"receiver = 'tap'"):
        replace(agreed, receiver=TapReceiver.of_gain(1.3, DETECTOR))
    with pytest.raises(SettingError, match="hiding"):
        replace(agreed, hiding=Hiding(decoys=3))


def test_a_run_says_how_well_phases_are_known(tmp_path: Path) -> None:
    test = load_test_images()
    run = ModeRun(
        network=load_network("noise-aware"),
        images=LabelledImages(test.images[:20], test.labels[:20]),
        runs=tmp_path,
        sampling=Sampling.MEASURED,
        oscillator=OwnOscillator(100.0, 100.0),
    )
    found = run_inference(run).as_json()["local_oscillator"]
    assert found["linewidth_hz"] == 100.0
    assert found["phase_rad2"] == pytest.approx(run.settings.phase_rad2_of(392))
    with pytest.raises(SettingError, match="rows of 392 modes"):
        run_inference(replace(run, oscillator=OwnOscillator(5000.0, 100.0)))
