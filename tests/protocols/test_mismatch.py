"""A clone that is not matched: what it returns, the same on both mode-level links."""

from __future__ import annotations

import cmath
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.errors import SettingError
from labctl.protocols.client import directions_of
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.link import LayerLight, Link
from labctl.protocols.mismatch import MATCHED_CLONE, CloneMismatch
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import CloneReceiver, Homodyne, Receiver, TapReceiver
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.studies.attacks.tampered_link import Path, TamperedLink

SETTINGS = SessionSettings(
    light=Light(3.0, PLAIN),
    channel=Channel(loss_db=1.0, technical_noise=0.1),
    receiver=CloneReceiver(2.5, 1.3, Homodyne(0.8, 0.1)),
    verifier=Homodyne(0.9, 0.2),
    assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
    sampling=Sampling.ALL,
    seed=1,
)
LARGE = CloneMismatch(gain_error=-0.3, phase_rad=0.4)


def read_of(
    link: Link, light: LayerLight, c: NDArray[np.complex64], images: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Return what is read of every row of every image, which quadrature, and what clients read."""
    coefficients = np.ascontiguousarray(np.repeat(c, images, axis=0)).view(np.float32)
    exchange = link.exchange(light, coefficients)
    parts = [(one.measured.copy(), one.cosine[:, 0] > 0.5) for one in exchange.returned]
    read, on_x = (np.concatenate(each) for each in zip(*parts, strict=True))
    return read, on_x, exchange.measured.reshape(len(read), -1)


@pytest.mark.parametrize("mismatch", [LARGE, CloneMismatch(0.4, -0.2)])
@pytest.mark.parametrize(
    "receiver", [SETTINGS.receiver, TapReceiver.of_gain(2.5, Homodyne(0.7, 0.05))]
)
@pytest.mark.parametrize("block_modes", [None, 2])
def test_returned_rows_have_the_mean_and_the_covariance_of_the_physics(
    mismatch: CloneMismatch, receiver: Receiver, block_modes: int | None
) -> None:
    """Both links, one row sent 30,000 times, seed 1; five standard errors."""
    settings = replace(
        SETTINGS,
        channel=replace(SETTINGS.channel, mismatch=mismatch, block_modes=block_modes),
        receiver=receiver,
    )
    rng = np.random.default_rng(3)
    image = rng.random((1, 6)).astype(np.float32)
    row = rng.normal(0.0, 2.0, (1, 6)).astype(np.float32)
    light = LayerLight(0, np.repeat(row, 300, axis=0), block_modes)
    c = directions_of(image, block_modes)
    blocked, leg, through = 1.2, settings.leg_transmittance, settings.transmittance * 0.9
    white = (1.2 + 0.9 * 0.1) / blocked
    mean = row.view(np.complex64)[0].astype(complex)
    noise = white * np.eye(3)
    for columns in light.blocks.slices():
        own = c[0, columns].astype(complex)
        mean[columns] += mismatch.kappa * np.vdot(own, mean[columns]) * own
        kick = mismatch.returned_noise(receiver.returned_noise)
        noise[columns, columns] += leg * 0.9 * kick / blocked * np.outer(own, own.conj()).real
    mean *= np.sqrt(through / blocked)
    for link in (ModeLink(settings), TamperedLink(settings, Path.honest(settings))):
        read, on_x, values = read_of(link, light, c, 100)
        for side, expected in ((on_x, mean.real), (~on_x, mean.imag)):
            deviation = read[side].mean(axis=0) - expected
            assert np.all(np.abs(deviation) < 5.0 * np.sqrt(noise.diagonal() / side.sum()))
            found = np.cov(read[side].T)
            error = np.outer(noise.diagonal(), noise.diagonal()) + noise**2
            assert np.all(np.abs(found - noise) < 5.0 * np.sqrt(error / side.sum()))
        # The measured arm is as planned: its noise is that of the matched clone.
        wanted = receiver.measured_noise
        assert np.allclose(values.var(axis=0), wanted, rtol=5.0 * np.sqrt(2.0 / len(values)))


def test_both_links_correlate_what_client_and_server_read_alike() -> None:
    """60,000 rows each, seed 1: covariances of client's value and server's reading agree."""
    settings = replace(SETTINGS, channel=replace(SETTINGS.channel, mismatch=LARGE))
    image = np.random.default_rng(3).random((1, 6)).astype(np.float32)
    c = directions_of(image, None)
    light = LayerLight(0, np.zeros((600, 6), np.float32))
    found = []
    for link in (ModeLink(settings), TamperedLink(settings, Path.honest(settings))):
        read, on_x, values = read_of(link, light, c, 100)
        found.append(np.array([(values * read)[side].mean(axis=0) for side in (on_x, ~on_x)]))
    variance = settings.receiver.measured_noise * 1.6
    assert np.all(np.abs(found[0] - found[1]) < 5.0 * np.sqrt(2.0 * variance / 30_000))
    assert np.abs(found[0]).max() > 0.05


def test_a_matched_clone_draws_the_same_numbers_as_ever() -> None:
    light = LayerLight(0, np.ones((5, 6), np.float32))
    c = directions_of(np.ones((1, 6), np.float32), None)
    plain, zero = (
        read_of(ModeLink(one), light, c, 2)[0]
        for one in (
            SETTINGS,
            replace(SETTINGS, channel=replace(SETTINGS.channel, mismatch=CloneMismatch(0.0, 0.0))),
        )
    )
    assert np.array_equal(plain, zero)
    assert MATCHED_CLONE.matched
    assert MATCHED_CLONE.returned_noise(0.3) == pytest.approx(0.3)


def test_kappa_is_what_is_left_of_an_amplitude_of_one() -> None:
    mismatch = CloneMismatch(0.002, 0.003)
    assert mismatch.kappa == pytest.approx(1.002 * cmath.exp(0.003j) - 1.0)
    # 0.3 % of phase leave as much as 0.3 % of gain.
    assert abs(CloneMismatch(0.0, 0.003).kappa) == pytest.approx(0.003, rel=1e-3)
    # 5 photons in mode b of 10: a mean of kappa sqrt(20) in either quadrature on average.
    assert mismatch.excess_noise(5.0, 10) == pytest.approx(abs(mismatch.kappa) ** 2)


@pytest.mark.parametrize("wrong", [{"gain_error": -1.0}, {"gain_error": 2.0}, {"phase_rad": 4.0}])
def test_impossible_mismatches_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingError):
        CloneMismatch(**wrong)
