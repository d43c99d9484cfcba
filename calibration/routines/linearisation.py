"""Linearisation of the drive: how the modulator changes symbols, and what undoes it.

Known random symbols s_i + i s_q come out as s_i + i g exp(i psi) s_q + c, bent by even and cubic
terms. A homodyne record at the phase theta reads y = A cos(theta) s_i + A g sin(theta - psi) s_q +
A kappa Re(c exp(-i theta)) + v_0. Both slopes of many phases lie on an ellipse, which gives g and
psi for any phases; these then separate the carrier c from the oscilloscope's offset
v_0. kappa, by which the matched filter answers steady light otherwise than a pulse, comes from a
known carrier sent on top. The inverse map corrects the drive; the same again says what is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.fits import Reals
from labctl.calibration.names import Child, Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import HOUR_S, Outcome
from labctl.dsp.dsp import read_slots, synchronise
from labctl.dsp.layout import Complexes, Floats, FrameLayout
from labctl.dsp.sender import FrameSender, Predistortion
from labctl.errors import CalibrationError, LimitError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAME = "SYMBOLS"
# 2,048 symbols, some 1,200 of them lit.
_ROWS, _MODES = 8, 256
# Both axes at once stay within the modulator's unit circle.
_LARGEST_FIELD = 0.7
# Share of the slots that are lit: dark ones separate the carrier from the offset.
_LIT = 0.6
# Phases of the local oscillator, each a point of an ellipse, which five points determine.
_PHASES = 64
_LEAST_PHASES = 9
# A known carrier, 34 dB below the largest field: of the size of what leaks.
_PROBE = 0.02
# Settings to try, the first that the attenuator takes.
_LEAST_DB = (0.0, 0.5, 1.0, 2.0, 3.0)
# Residual and cubic part over the linear one: beyond, the model is not that of this modulator.
_LARGEST_MISFIT = 0.15
_LARGEST_CUBIC = 0.15
# The terms that `_design` lists.
_COLUMNS = 9
_NONE = Predistortion()


@dataclass(frozen=True)
class WidelyLinear:
    """Gain of Q over I, quadrature error in rad and carrier, with covariances.

    `carrier`: both parts in the units of the records' symbols. `cubic`: of I and of Q, over their
    slopes. `shape_covariance` is that of gain and quadrature, `carrier_covariance` of the carrier.
    """

    gain: float
    quadrature_rad: float
    shape_covariance: Reals
    carrier: complex
    carrier_covariance: Reals
    cubic: tuple[float, float]
    cubic_error: tuple[float, float]
    phases: int


def slopes(read: Floats, symbols: Complexes) -> tuple[Reals, Reals]:
    """Fit one record; returns coefficients and residual.

    Of s_i, s_q, s_i^3, s_q^3, s_i^2, s_q^2, s_i^4, s_q^4 and 1. Even powers are for the light
    that leaks through a child of finite extinction, of which a driven child has less. The columns
    are of like size, so that normal equations do.
    """
    design = _design(symbols)
    solution = np.linalg.solve(design.T @ design, design.T @ read.astype(np.float64))
    return np.asarray(solution, np.float64), np.asarray(read - design @ solution, np.float64)


def ellipse(first: Reals, second: Reals) -> tuple[float, float, float, Reals]:
    """Return A, g and psi of points (A cos t, A g sin(t - psi)), and the covariance of g and psi.

    Least squares of p x^2 + q y^2 + 2 r x y = 1 with p = 1/(A cos psi)^2, q = p/g^2,
    r = p sin(psi)/g.
    """
    design = np.stack([first**2, second**2, 2.0 * first * second], axis=1)
    conic, *_ = np.linalg.lstsq(design, np.ones(len(first)), rcond=None)
    p, q, r = (float(value) for value in conic)
    if not (p > 0.0 and q > 0.0 and p * q > r * r):
        raise CalibrationError(
            "slopes of the records lie on no ellipse: does the local oscillator's phase shifter "
            "move the phase, are both children driven?"
        )
    residual = 1.0 - design @ conic
    variance = float(residual @ residual) / (len(first) - 3)
    covariance = variance * np.linalg.inv(design.T @ design)
    gain, sine = math.sqrt(p / q), r / math.sqrt(p * q)
    cosine = math.sqrt(1.0 - sine**2)
    of_gain = [gain / (2.0 * p), -gain / (2.0 * q), 0.0]
    of_psi = [-sine / (2.0 * p), -sine / (2.0 * q), 1.0 / math.sqrt(p * q)]
    jacobian = np.array([of_gain, [each / cosine for each in of_psi]])
    amplitude = 1.0 / (math.sqrt(p) * cosine)
    return (
        amplitude,
        gain,
        math.asin(sine),
        np.asarray(jacobian @ covariance @ jacobian.T, np.float64),
    )


def shared_cubic(coefficients: Reals, symbols: Complexes) -> Reals:
    """Return the coefficients as if fitted with one cubic part, common to I, Q and all records.

    Its ratio to the slopes is the mean of all, which makes the slopes several times more certain.
    The records share one design D, so the fit with D determines what a fit with D B gives:
    (B' D'D B)^-1 B' D'D times the old solution. Cubic coefficients stay as they were.
    """
    both = [np.concatenate([coefficients[:, part], coefficients[:, part + 1]]) for part in (0, 2)]
    ratio, _ = _ratio(both[1], both[0])
    information = _design(symbols).T @ _design(symbols)
    merge = np.delete(np.eye(_COLUMNS), (2, 3), axis=1)
    merge[2, 0] = merge[3, 1] = ratio
    weighted = merge.T @ information
    merged = np.linalg.solve(weighted @ merge, weighted @ coefficients.T).T
    return np.insert(merged, [2, 2], coefficients[:, 2:4], axis=1)


def _design(symbols: Complexes) -> Reals:
    i, q = symbols.real.astype(np.float64), symbols.imag.astype(np.float64)
    columns = [i, q, i**3, q**3, i**2, q**2, i**4, q**4, np.ones_like(i)]
    return np.stack(columns, axis=1)


def widely_linear(coefficients: Reals) -> WidelyLinear:
    """Combine the coefficients of all records, shape (phases, 9), as `slopes` returns them."""
    first, second = coefficients[:, 0], coefficients[:, 1]
    amplitude, gain, psi, covariance = ellipse(first, second)
    cosine = first / amplitude
    sine = (second / (amplitude * gain) + cosine * math.sin(psi)) / math.cos(psi)
    design = np.stack([amplitude * cosine, amplitude * sine, np.ones_like(cosine)], axis=1)
    # Column 8 is the constant: the carrier's part turns with the phase, the offset does not.
    steady, *_ = np.linalg.lstsq(design, coefficients[:, 8], rcond=None)
    residual = coefficients[:, 8] - design @ steady
    variance = float(residual @ residual) / (len(first) - 3)
    steady_covariance = variance * np.linalg.inv(design.T @ design)
    cubics = [_ratio(coefficients[:, 2 + part], coefficients[:, part]) for part in (0, 1)]
    return WidelyLinear(
        gain,
        psi,
        covariance,
        complex(steady[0], steady[1]),
        np.asarray(steady_covariance[:2, :2], np.float64),
        (cubics[0][0], cubics[1][0]),
        (cubics[0][1], cubics[1][1]),
        len(first),
    )


def _ratio(above: Reals, below: Reals) -> tuple[float, float]:
    """Return the proportionality of two series and its standard error."""
    power = float(below @ below)
    ratio = float(above @ below) / power
    residual = above - ratio * below
    return ratio, math.sqrt(float(residual @ residual) / (len(above) - 1) / power)


def image_rejection_db(gain: float, quadrature_rad: float) -> float:
    """Return a field over its mirror image: 20 lg |(1 + g e^(i psi)) / (1 - g e^(i psi))|."""
    turned = gain * complex(math.cos(quadrature_rad), math.sin(quadrature_rad))
    return 20.0 * math.log10(abs(1.0 + turned) / max(abs(1.0 - turned), 1e-12))


class Linearisation:
    """Measures `server.iq_gain`, `server.iq_quadrature_rad`, `server.carrier_i` and `_q`.

    And what the correction by them leaves, `server.iq_gain_left` and so on.
    """

    name = "linearisation"
    title = "modulator: linear drive, I/Q imbalance, carrier"
    needs: tuple[str, ...] = ("half_wave_voltage",)
    roles = (
        "server.laser",
        "server.drive",
        "server.bias_i",
        "server.bias_q",
        "server.bias_parent",
        "server.lo_phase",
        "server.digitizer",
    )
    valid_for_s = 4.0 * HOUR_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return light and timing, by which generator and modulator respond."""
        equipment = bench.equipment
        return {
            "server.laser_frequency_hz": equipment.server.laser_frequency_hz,
            "frame.symbol_rate_hz": equipment.frame.symbol_rate_hz,
            "frame.sample_rate_hz": equipment.frame.sample_rate_hz,
        }

    def run(self, bench: CalibrationBench) -> Outcome:
        """Measure as it is, with a known carrier, and corrected."""
        bench.light_on()
        bench.equipment.client.gain.set(0.0)
        attenuator = bench.equipment.server.attenuator
        before_db = attenuator.attenuation_db()
        least_db = _brightest(bench)
        layout = bench.sender.layout(rows=_ROWS, modes=_MODES)
        symbols = _random_symbols(bench, layout)
        try:
            plain = _measured(bench, layout, symbols, _NONE, "as it is")
            probe = Predistortion(carrier_i=-_PROBE, carrier_q=-_PROBE)
            probed = _measured(bench, layout, symbols, probe, "with a known carrier")
            found, kappa = _corrections(plain, probed)
            left = _measured(bench, layout, symbols, found, "corrected")
        finally:
            bench.learn(bench.knowledge)
            bench.sender.forget()
            bench.equipment.server.lo_phase.set(0.0)
            attenuator.set_attenuation(max(before_db, least_db))
        before, after = widely_linear(plain), widely_linear(left)
        raw: dict[str, Reals | Complexes] = {
            "symbols": symbols,
            "plain": plain,
            "probed": probed,
            "corrected": left,
        }
        quantities = _quantities(before, kappa, names.DRIVE) | _quantities(
            after, kappa, names.DRIVE_LEFT
        )
        return Outcome(
            quantities,
            raw,
            lambda figure: _draw(figure, plain, before, after, kappa.value),
            remarks=_remarks(before, after, kappa.value),
        )


def _brightest(bench: CalibrationBench) -> float:
    for attenuation_db in _LEAST_DB:
        try:
            bench.equipment.server.attenuator.set_attenuation(attenuation_db)
        except LimitError:
            continue
        return attenuation_db
    raise CalibrationError(f"attenuator takes none of {_LEAST_DB} dB: what are its limits?")


def _random_symbols(bench: CalibrationBench, layout: FrameLayout) -> Complexes:
    """Return a frame of random symbols, of which some are dark: these show the carrier."""
    shape = (_ROWS, 2 * _MODES)
    fields = bench.draw.uniform(-_LARGEST_FIELD, _LARGEST_FIELD, shape)
    fields *= np.repeat(bench.draw.random((_ROWS, _MODES)) < _LIT, 2, axis=1)
    return layout.server_symbols(fields.astype(np.float32), 1.0)


def _measured(
    bench: CalibrationBench,
    layout: FrameLayout,
    symbols: Complexes,
    predistortion: Predistortion,
    step: str,
) -> Reals:
    """Return the coefficients of records at phases all around, shape (phases, 9)."""
    bench.on_step(f"symbols, {step}")
    server = bench.equipment.server
    bench.sender = FrameSender(server, bench.equipment.frame, bench.on_step, predistortion)
    bench.load(_NAME, layout, symbols)
    duration_s = bench.duration_s(layout)
    bench.fit_ranges(["server"], duration_s, rounds=1)
    phases = bench.count(_PHASES, _LEAST_PHASES)
    found = np.empty((phases, _COLUMNS))
    for number in range(phases):
        turns = 2.0 * number / phases - 1.0
        server.lo_phase.set(turns * server.constants.phase_shifter_v_pi_v)
        found[number] = _coefficients(bench, layout, symbols, duration_s)
    return shared_cubic(found, symbols[layout.first_row_slot :])


def _coefficients(
    bench: CalibrationBench, layout: FrameLayout, symbols: Complexes, duration_s: float
) -> Reals:
    trace = bench.record(["server"], duration_s)["server"]
    longest_delay_s = bench.equipment.frame.longest_delay_s
    start_s = synchronise(trace, layout, longest_delay_s).start_s
    payload = slice(layout.first_row_slot, layout.slots)
    read = read_slots(trace, layout, start_s, 0, layout.slots)[payload]
    found, residual = slopes(read, symbols[payload])
    amplitude = math.hypot(found[0], found[1])
    misfit = float(np.std(residual)) / amplitude
    cubic = math.hypot(found[2], found[3]) / amplitude
    if not misfit < _LARGEST_MISFIT or not cubic < _LARGEST_CUBIC:
        raise CalibrationError(
            f"record does not follow the symbols (residual {misfit:.0%} of their amplitude, cubic "
            f"part {cubic:.0%}): does detector or oscilloscope clip, is the half-wave voltage "
            "right, is there enough light?"
        )
    return found


def _corrections(plain: Reals, probed: Reals) -> tuple[Predistortion, Quantity]:
    """Return the correction and kappa, from records without and with the known carrier."""
    before, shifted = widely_linear(plain), widely_linear(probed)
    step = shifted.carrier - before.carrier
    sent = complex(_PROBE, _PROBE)
    # The known carrier passes the modulator's own imbalance, which is of second order here.
    value = (step * sent.conjugate()).real / abs(sent) ** 2
    joint = before.carrier_covariance + shifted.carrier_covariance
    error = math.sqrt(float(joint.sum())) * _PROBE / abs(sent) ** 2
    kappa = Quantity.of(value, "1", {"records": error})
    if not 0.5 < value < 3.0:
        raise CalibrationError(
            f"a carrier of {_PROBE:g} comes back {value:.2g} times as strong as symbols do: are "
            "both outputs of the generator connected to their children?"
        )
    carrier = before.carrier / value
    found = Predistortion(before.gain, before.quadrature_rad, carrier.real, carrier.imag)
    return found, kappa


def _quantities(
    found: WidelyLinear, kappa: Quantity, drive: names.DriveNames
) -> dict[Name, Quantity]:
    freedom = found.phases - 3
    shape = np.sqrt(np.diagonal(found.shape_covariance))
    carrier_error = np.sqrt(np.diagonal(found.carrier_covariance)) / kappa.value
    relative = kappa.standard_uncertainty / kappa.value
    parts: dict[Child, float] = {
        "i": found.carrier.real / kappa.value,
        "q": found.carrier.imag / kappa.value,
    }
    quantities = {
        drive.gain: Quantity.of(
            found.gain, "1", {"records": float(shape[0])}, degrees_of_freedom=freedom
        ),
        drive.quadrature_rad: Quantity.of(
            found.quadrature_rad, "rad", {"records": float(shape[1])}, degrees_of_freedom=freedom
        ),
    }
    for index, (part, value) in enumerate(parts.items()):
        budget = {"records": float(carrier_error[index]), "kappa": abs(value) * relative}
        quantities[drive.carrier.of(part)] = Quantity.of(
            value, "1", budget, degrees_of_freedom=freedom
        )
        quantities[drive.cubic.of(part)] = Quantity.of(
            found.cubic[index],
            "1",
            {"records": found.cubic_error[index]},
            degrees_of_freedom=found.phases - 1,
        )
    return quantities


def _remarks(before: WidelyLinear, after: WidelyLinear, kappa: float) -> tuple[str, ...]:
    told = []
    for name, found in (("as it is", before), ("corrected", after)):
        error = math.sqrt(float(np.trace(found.carrier_covariance)))
        carrier = math.hypot(abs(found.carrier), 2.0 * error) / kappa
        shape = 2.0 * np.sqrt(np.diagonal(found.shape_covariance))
        gain, psi = (
            math.hypot(value, float(reach))
            for value, reach in zip((found.gain - 1.0, found.quadrature_rad), shape, strict=True)
        )
        told.append(
            f"{name}: carrier at least {-20.0 * math.log10(carrier):.1f} dB below the largest "
            f"field, image rejection at least {image_rejection_db(1.0 + gain, psi):.1f} dB"
        )
    told.append("carrier and quadrature hold until the biases are locked again")
    return tuple(told)


def _draw(
    figure: Figure, plain: Reals, before: WidelyLinear, after: WidelyLinear, kappa: float
) -> None:
    slope, carrier = figure.subplots(1, 2)
    slope.plot(1e3 * plain[:, 0], 1e3 * plain[:, 1], "o", ms=4)
    amplitude, gain, psi, _ = ellipse(plain[:, 0], plain[:, 1])
    turn = np.linspace(0.0, 2.0 * np.pi, 200)
    slope.plot(1e3 * amplitude * np.cos(turn), 1e3 * amplitude * gain * np.sin(turn - psi), lw=1)
    slope.set_aspect("equal")
    slope.set_xlabel("slope over I / mV")
    slope.set_ylabel("slope over Q / mV")
    slope.set_title(f"gain {gain:.5f}, quadrature {1e3 * psi:.2f} mrad")
    for name, found in (("as it is", before), ("corrected", after)):
        errors = 2e3 * np.sqrt(np.diagonal(found.carrier_covariance)) / kappa
        field = 1e3 * found.carrier / kappa
        carrier.errorbar(
            field.real, field.imag, errors[1], errors[0], fmt="o", ms=4, capsize=2, label=name
        )
    carrier.axhline(0.0, lw=0.8, color="0.6")
    carrier.axvline(0.0, lw=0.8, color="0.6")
    carrier.set_xlabel("carrier along I / 1e-3 of the largest field")
    carrier.set_ylabel("carrier along Q / 1e-3 of the largest field")
    carrier.set_title("Carrier, k = 2")
    carrier.legend()
