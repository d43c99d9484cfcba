"""The client's clone: net gain and phase of what it returns, from known symbols in rotated rows.

A row's symbols s come back as A (s + kappa (c^dagger s) c): what passed the clone is a share
kappa = (1 + delta) e^(i phi) - 1 brighter and turned, c being what the rotation collects. One
quadrature is read, y = Re(conj(g) s) + Re(conj(h) u) + offset, u = (c^dagger s) c, and kappa is
conj(h)/conj(g): both amplitudes are fitted to the same slots of the same rows, so that powers,
losses and the local oscillator's phase cancel. Coefficients are drawn again for each record: what
the transmitter and the detector do to symbols (imbalance, memory) has no part along all of them.

What the rotation collects is c only up to its elements' errors, sigma each: the collected mode c'
overlaps with c by f, and kappa shows in the share f^2 of its square. Blocks are small here, so that
this is a small part of a small number; it is in the budget. The routine takes a second of light
and can run between images: the drift of the clone is what limits how long its result holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import HOUR_S, Outcome
from labctl.calibration.routines.known_symbols import (
    check_linear,
    fit_amplitude,
    frame_of,
    random_symbols,
    read_rows,
)
from labctl.calibration.routines.records import fit_ranges, record, sync_of
from labctl.calibration.routines.rotated_rows import (
    amplifying,
    forget_rotation,
    load_rotation,
    random_coefficients,
    require_light,
)
from labctl.dsp.layout import Floats, FrameLayout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRAME = "CLONE"
# A gain like those that sessions use against label reading.
GAIN = 1.02
# Small blocks: the clone's share of a row is 1/4, and errors of the rotation stay small.
_MODES, _ROWS = 4, 2048
# Rows that pass without rotation, before those that are rotated.
_UNTOUCHED = 8
# Near the modulator's largest field: the error of kappa falls as one over the field.
_FIELD = 0.9
# 128 symbols for five parameters; 6.4 us at 20 MBd, in which the phase has to keep still.
_WINDOW_ROWS = 32
# Records, each with its own coefficients.
_DRAWS = 24
# Fewer than these and the scatter of products of random coefficients gives a poor error.
_LEAST_DRAWS = 16
# A drift of 0.02 % per square root of an hour has moved by half of what is measured in a quarter.
_VALID_S = 0.25 * HOUR_S


@dataclass(frozen=True)
class _Record:
    """kappa of one record, and the symbols' share of what was read in V."""

    kappa: complex
    amplitude_v: float


class CloneNetGain:
    """Measures `client.clone_gain_error` and `client.clone_phase_rad`, at the amplifier's `gain`.

    delta and phi of (1 + delta) e^(i phi), the net amplitude with which a clone returns mode b.
    """

    name = "clone"
    title = "client's clone: net gain and phase of what it returns"
    needs: tuple[str, ...] = ("half_wave_voltage",)
    roles = (
        "server.laser",
        "server.drive",
        "server.digitizer",
        "client.rotation",
        "client.gain",
    )
    valid_for_s = _VALID_S

    def __init__(self, gain: float = GAIN) -> None:
        self._gain = gain

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return the gain it holds for, and the slots' rate, to which the unit is built."""
        return {
            "client.clone_gain": self._gain,
            "frame.symbol_rate_hz": bench.equipment.frame.symbol_rate_hz,
            "server.laser_frequency_hz": bench.equipment.server.laser_frequency_hz,
        }

    def run(self, bench: CalibrationBench) -> Outcome:
        """Rotate rows of known symbols by random coefficients, new ones for each record."""
        with amplifying(bench, self._gain):
            records = _measured(bench)
        kappa = np.array([each.kappa for each in records])
        net = 1.0 + kappa
        overlap = _lost_overlap(bench)
        quantities = {
            names.CLONE_GAIN_ERROR: _quantity(np.abs(net) - 1.0, overlap, "1"),
            names.CLONE_PHASE_RAD: _quantity(np.angle(net), overlap, "rad"),
        }
        raw = {
            "kappa": kappa,
            "amplitude_v": np.array([each.amplitude_v for each in records]),
        }
        return Outcome(quantities, raw, lambda figure: _draw(figure, kappa, quantities))


def kappa_of(
    read: Floats,
    symbols: npt.NDArray[np.complex64],
    coefficients: npt.NDArray[np.complex128],
    window_rows: int = _WINDOW_ROWS,
) -> tuple[complex, float]:
    """Return kappa of rows (rows, modes) of readings, and the symbols' amplitude in V.

    The phase may walk between windows of `window_rows` rows. Windows count by their light's power.
    """
    s = symbols.astype(np.complex128)
    u = (s @ coefficients.conj())[:, None] * coefficients
    ratios, weights = [], []
    for first in range(0, len(read), window_rows):
        part = slice(first, first + window_rows)
        known = [s[part].ravel(), u[part].ravel()]
        columns = [each for one in known for each in (one.real, one.imag)]
        design = np.stack([*columns, np.ones(known[0].size)], axis=1)
        found = np.linalg.lstsq(design, read[part].ravel().astype(np.float64), rcond=None)[0]
        # y = Re(conj(g) s): the coefficients of Re s and Im s are Re g and Im g.
        g, h = complex(found[0], found[1]), complex(found[2], found[3])
        ratios.append(h.conjugate() / g.conjugate())
        weights.append(abs(g) ** 2)
    mean = complex(np.average(ratios, weights=weights))
    return mean, math.sqrt(float(np.mean(weights)))


def _measured(bench: CalibrationBench) -> list[_Record]:
    draws = bench.count(_DRAWS, _LEAST_DRAWS)
    bench.on_step(f"net gain of the clone, {draws} records")
    layout = bench.sender.layout(rows=_UNTOUCHED + _ROWS, modes=_MODES)
    symbols = random_symbols(bench.draw, layout.rows, _MODES, _FIELD)
    forget_rotation(bench)
    bench.load(_FRAME, layout, frame_of(layout, symbols))
    arrival_s = _prepare(bench, layout)
    return [_one(bench, layout, symbols, arrival_s) for _ in range(draws)]


def _prepare(bench: CalibrationBench, layout: FrameLayout) -> float:
    """Fit the ranges and return when light arrives at the client, in s after the trigger."""
    duration_s = bench.duration_s(layout)
    last = fit_ranges(bench, ("client", "server"), duration_s, rounds=3)[-1]
    arrival_s = sync_of(bench, "client", last["client"], layout).start_s
    return max(arrival_s - bench.equipment.client.constants.detector_delay_s, 0.0)


def _one(
    bench: CalibrationBench,
    layout: FrameLayout,
    symbols: npt.NDArray[np.complex64],
    arrival_s: float,
) -> _Record:
    coefficients = random_coefficients(bench, _MODES)
    load_rotation(bench, layout, coefficients, arrival_s, _UNTOUCHED)
    trace = record(bench, ("server",), bench.duration_s(layout))["server"]
    start_s = sync_of(bench, "server", trace, layout).start_s
    rows = read_rows(trace, layout, start_s)[_UNTOUCHED:, layout.mode_offsets]
    known = symbols[_UNTOUCHED:]
    light = fit_amplitude(rows.ravel(), known.ravel(), _WINDOW_ROWS * _MODES)
    require_light("server", light)
    check_linear(light, "server")
    return _Record(*kappa_of(rows, known, coefficients))


def _lost_overlap(bench: CalibrationBench) -> float:
    """Return 1 - f^2 that the rotation's elements may take of kappa, from what is known of them."""
    known = bench.knowledge.quantities.get(names.ROTATION_ERROR_RAD)
    if known is None:
        error_rad = bench.equipment.client.constants.rotation_error_rad
    else:
        error_rad = known.value + 2.0 * known.standard_uncertainty
    return 1.0 - math.exp(-(error_rad**2) * (_MODES + 1) / 2.0)


def _quantity(values: npt.NDArray[np.float64], lost: float, unit: str) -> Quantity:
    mean = float(np.mean(values))
    scatter = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    budget = {"records": scatter, "rotation": abs(mean) * lost}
    return Quantity.of(
        mean, unit, budget, degrees_of_freedom={"records": len(values) - 1, "rotation": math.inf}
    )


def _draw(
    figure: Figure, kappa: npt.NDArray[np.complex128], found: Mapping[Name, Quantity]
) -> None:
    axes = figure.subplots()
    net = 1.0 + kappa
    axes.plot(100.0 * (np.abs(net) - 1.0), 1e3 * np.angle(net), ".", color="C0", label="records")
    gain, phase = found[names.CLONE_GAIN_ERROR], found[names.CLONE_PHASE_RAD]
    axes.errorbar(
        100.0 * gain.value,
        1e3 * phase.value,
        xerr=100.0 * gain.standard_uncertainty,
        yerr=1e3 * phase.standard_uncertainty,
        fmt="o",
        color="C1",
        label="mean",
    )
    axes.axhline(0.0, lw=0.8, color="k")
    axes.axvline(0.0, lw=0.8, color="k")
    axes.set_xlabel("net amplitude gain over 1, less 1 / %")
    axes.set_ylabel("phase / mrad")
    axes.set_title("What the clone returns of known symbols")
    axes.legend(fontsize="small")
