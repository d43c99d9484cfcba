"""The whole simulated chain against The Walrus, a public package for Gaussian states of light.

One row of three pulses goes from the modulator through rotation, clone, splitter, undoing, loss and
both receivers. The Walrus propagates its mean vector and covariance by its own symplectic matrices
and loss channels (hbar = 2, where vacuum has variance 1); the bench draws fields sample by sample.
"""

from __future__ import annotations

import copy
import math
import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from labctl.data import shipped_bench_path
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_file import build_bench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.physics.drive import DriveOutput, DriveParameters
from labctl.instruments.simulated.physics.grid import Noise, Window
from labctl.instruments.simulated.physics.path import PhaseShifter
from labctl.instruments.simulated.physics.rotation import RotationUnit
from labctl.instruments.simulated.ports import (
    BiasMode,
    Capture,
    CaptureWindow,
    ChannelWindow,
    Drive,
)

pytest.importorskip("thewalrus", reason="The Walrus is not installed (extra test-full)")

from thewalrus import quantum, symplectic

GRID_HZ, SLOT, MIDDLE = 160e6, 16, 8
FREQUENCY_HZ, POWER_W = 193.4e12, 0.02
PLANCK_J_S, CHARGE_C = 6.62607015e-34, 1.602176634e-19
WIDE_HZ = 0.49 * GRID_HZ
GAIN_PER_V = 0.25
DRIVE_I_V = 3.5 * np.array([0.9, -0.4, 0.3])
DRIVE_Q_V = 3.5 * np.array([0.2, 0.7, -0.8])
LEVELS_V = np.array([0.5 + 0.1j, -0.3j, 0.8 - 0.2j])

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]


@dataclass(frozen=True)
class Setting:
    """The parameters of both sides."""

    gain: float
    emission_factor: float
    loss_db_per_mode: float
    back_loss_db: float
    efficiencies: tuple[float, float]
    electronic_noise_a_rthz: tuple[float, float]
    phases_rad: tuple[float, float]


def bench_of(setting: Setting) -> LinkBench:
    content: dict[str, Any] = copy.deepcopy(
        tomllib.loads(shipped_bench_path().read_text(encoding="utf-8"))
    )
    content.update(seed=31, panels={}, taps={})
    content["laser"].update(linewidth_hz=0.0, rin_db_hz=-300.0)
    content["generators"].update(noise_v=0.0, bits=24, bandwidth_hz=WIDE_HZ)
    content["modulator"].update(lock_error_rad=0.0, extinction_ratio_db=200.0)
    content["attenuation"].update(fixed_db=68.0)
    content["forward"].update(length_km=0.0)
    content["back"].update(length_km=0.0, connector_loss_db=setting.back_loss_db)
    content["rotation"].update(
        storage_s=0.0,
        symbol_rate_hz=GRID_HZ / SLOT,
        emission_factor=setting.emission_factor,
        loss_db_per_mode=setting.loss_db_per_mode,
    )
    for place, name in enumerate(("client", "server")):
        content[name].update(
            efficiency=setting.efficiencies[place],
            electronic_noise_a_rthz=setting.electronic_noise_a_rthz[place],
            lo_delay_s=0.0,
            phase_drift_rad2_s=0.0,
            bandwidth_hz=WIDE_HZ,
            swing_v=1e4,
            digitizer_bits=24,
            digitizer_noise_v=0.0,
            common_mode_rejection_db=200.0,
        )
    return build_bench(BenchFile.model_validate(content), Path("bench.toml"))


def play(bench: LinkBench, setting: Setting, rows: int) -> None:
    """Switch everything on, with the rows to begin at bench time zero."""
    optics = bench.optics
    optics.laser.set_emission(True, POWER_W, FREQUENCY_HZ)
    optics.modulator.child_i.set_bias(BiasMode.NULL)
    optics.modulator.child_q.set_bias(BiasMode.NULL)
    optics.modulator.parent.set_bias(BiasMode.QUADRATURE_PLUS)
    real, imaginary, control = (
        DriveOutput(
            DriveParameters(24, 10.0, WIDE_HZ, 0.0), GRID_HZ, Noise(np.random.SeedSequence(seed))
        )
        for seed in (32, 33, 34)
    )
    optics.rotation = RotationUnit(
        optics.rotation.parameters, real, imaginary, control, Noise(np.random.SeedSequence(35))
    )
    control_v = (setting.gain - 1.0) / GAIN_PER_V
    control.play(Drive(np.array([control_v], np.float32), 1.0, 0.0, None, 0.0))
    for output, volts in (
        (optics.drive_i, DRIVE_I_V),
        (optics.drive_q, DRIVE_Q_V),
        (real, LEVELS_V.real),
        (imaginary, LEVELS_V.imag),
    ):
        held = np.repeat(np.concatenate(([0.0], volts, [0.0])), SLOT).astype(np.float32)
        output.play(Drive(held, GRID_HZ, 0.0, rows, 0.0))
    for receiver, phase_rad in zip(optics.receivers.values(), setting.phases_rad, strict=True):
        own_rad = float(receiver.drift.phase(Window(0, 1))[0])
        shift_v = (phase_rad - own_rad) / math.pi
        receiver.phase_shifter = PhaseShifter(1.0, partial(float, shift_v))


def photons_of(setting: Setting, place: int) -> float:
    """Return the local oscillator's detected photons per grid sample."""
    return setting.efficiencies[place] * 0.35 * POWER_W / (PLANCK_J_S * FREQUENCY_HZ) / GRID_HZ


def read(bench: LinkBench, setting: Setting, rows: int) -> Floats:
    """Return (rows, 4): the client's last slot and the server's three, in shot-noise units."""
    got: dict[str, Capture] = {}
    samples = rows * (len(LEVELS_V) + 2) * SLOT
    window = CaptureWindow(0.0, GRID_HZ, samples, {1: ChannelWindow(400.0, 0.0)})
    for name in ("client", "server"):
        bench.digitizer_at(name).arm(window, partial(got.__setitem__, name))
    bench.trigger.fire()
    slots = []
    for place, name in enumerate(("client", "server")):
        unit_v = 13e3 * CHARGE_C * GRID_HZ * math.sqrt(photons_of(setting, place))
        volts = got[name][1].astype(np.float64).reshape(rows, -1, SLOT) / unit_v
        slots.append(volts[:, :, 4 : 4 + MIDDLE].sum(axis=2) / math.sqrt(MIDDLE))
    return np.column_stack([slots[0][:, -1], slots[1][:, 1:-1]])


def sent_amplitudes() -> Complexes:
    """Return alpha of each pulse's middle samples, from power, losses and the children's sines."""
    power_w = POWER_W * 0.1 * 0.95 * 10.0 ** (-(6.0 + 0.7 + 68.0) / 10.0)
    photons = MIDDLE * power_w / (PLANCK_J_S * FREQUENCY_HZ) / GRID_HZ
    scale = 1550e-9 * FREQUENCY_HZ / 299_792_458.0
    children = [np.sin(math.pi * volts / 7.0 * scale) for volts in (DRIVE_I_V, DRIVE_Q_V)]
    return np.asarray(-0.5 * math.sqrt(photons) * (children[0] + 1j * children[1]))


def by_the_walrus(setting: Setting) -> tuple[Floats, Floats]:
    """Return mean and covariance of (client's value, server's three values).

    Modes 0 to 2 carry the row, 3 is the amplifier's idler, 4 the vacuum at its splitter, where
    the measured arm leaves.
    """
    count, row = 5, [0, 1, 2]
    mu, cov = np.zeros(2 * count), np.eye(2 * count)
    for mode, alpha in enumerate(sent_amplitudes()):
        mu += symplectic.expand_vector(alpha, mode, count).real
    cov[3, 3] = cov[8, 8] = 2.0 * setting.emission_factor - 1.0
    through = 10.0 ** (-len(row) * setting.loss_db_per_mode / 10.0)
    back = 10.0 ** (-setting.back_loss_db / 10.0)

    def apply(matrix: Floats, modes: list[int]) -> None:
        nonlocal mu, cov
        whole = symplectic.expand(matrix, modes, count)
        mu, cov = whole @ mu, whole @ cov @ whole.T

    def lose(transmittance: float, modes: list[int]) -> None:
        nonlocal mu, cov
        for mode in modes:
            mu, cov = symplectic.loss(mu, cov, transmittance, mode)

    basis = np.eye(3, dtype=np.complex128)
    basis[:, 0] = LEVELS_V
    unitary, triangle = np.linalg.qr(basis)
    unitary[:, 0] *= triangle[0, 0] / abs(triangle[0, 0])
    lose(through, row)
    apply(symplectic.interferometer(unitary.conj().T), row)
    apply(symplectic.two_mode_squeezing(math.acosh(math.sqrt(setting.gain)), 0.0), [0, 3])
    apply(symplectic.beam_splitter(math.acos(math.sqrt(1.0 / setting.gain)), 0.0), [0, 4])
    apply(symplectic.interferometer(unitary), row)
    lose(through * back * setting.efficiencies[1], row)
    lose(setting.efficiencies[0], [4])
    assert quantum.is_valid_cov(cov)
    for mode, phase_rad in ((4, setting.phases_rad[0]), *((m, setting.phases_rad[1]) for m in row)):
        apply(symplectic.rotation(-phase_rad), [mode])
    read_out = [4, *row]
    electronic = [
        setting.electronic_noise_a_rthz[place] ** 2
        / (2.0 * CHARGE_C**2 * GRID_HZ * photons_of(setting, place))
        for place in (0, 1)
    ]
    noise = np.diag([electronic[0], *[electronic[1]] * 3])
    return mu[read_out], cov[np.ix_(read_out, read_out)] + noise


@pytest.mark.parametrize(
    "setting",
    [
        Setting(2.0, 1.0, 0.0, 0.0, (1.0, 1.0), (0.0, 0.0), (0.0, 0.0)),
        Setting(1.3, 1.0, 0.4, 1.5, (0.85, 0.6), (12e-12, 8e-12), (0.4, 1.1)),
        Setting(3.5, 1.7, 0.1, 0.6, (0.7, 0.9), (20e-12, 30e-12), (2.0, -0.7)),
    ],
)
def test_mean_and_covariance_of_a_row_are_those_of_the_walrus(setting: Setting) -> None:
    """20,000 rows, seed 31: five standard errors of every mean, variance and covariance.

    Detectors at 0.49 of the grid's rate take up to 0.5 % of the noise, and 0.2 % of a mean.
    """
    rows = 20_000
    bench = bench_of(setting)
    play(bench, setting, rows)
    values = read(bench, setting, rows)
    mean, cov = by_the_walrus(setting)
    scale = np.sqrt(np.diag(cov))
    assert np.max(np.abs(mean)) > 1.0
    tolerance = 5.0 * scale / math.sqrt(rows) + 2e-3 * np.abs(mean)
    assert np.all(np.abs(values.mean(axis=0) - mean) < tolerance)
    spread = np.sqrt((np.outer(scale, scale) ** 2 + cov**2) / rows)
    assert np.all(np.abs(np.cov(values.T) - cov) < 5.0 * spread + 5e-3 * cov.max())
