"""Offsets and relative gains of generator and oscilloscope.

With the laser off the mean of a record is the oscilloscope's offset in that range, dithered by its
own noise. Where noise is less than the converter's steps the mean is off, towards the middle of a
step: then offset and noise are those of the normal distribution that fills the steps as seen. One
preamble seen in several ranges gives their gains relative to the first. The generator's offsets
show on a modulator held in the middle of a slope: how much the monitor reads more at 0 V than with
the output off, over what it reads more per volt that is set.

Absolute gains cannot be separated: the generator's is part of the half-wave voltage, which counts
in its volts, and the oscilloscope's is part of the shot-noise unit, which counts in its volts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.distributions import Shape
from labctl.calibration.fits import Reals
from labctl.calibration.names import CHILDREN, PARTIES, Name, Party
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import DAY_S, Outcome
from labctl.dsp.dsp import synchronise
from labctl.dsp.layout import Floats, FrameLayout
from labctl.errors import CalibrationError
from labctl.instruments.capabilities import BiasPoint, Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Ranges in use: dark noise at the bottom, a bright preamble at the top.
_RANGES_V = tuple(range_mv / 1e3 for range_mv in names.SCOPE_RANGES_MV)
# 20,000 samples at 200 MSa/s.
_DARK_DURATION_S = 100e-6
# The scatter between records is known to 1/sqrt(2 x 11) = 21 %.
_DARK_RECORDS = 12
# The scatter of 20 blocks gives the error of a mean to 16 %, noise of any colour included.
_BLOCKS = 20
# Their scatter is the error of a ratio, to 1/sqrt(2 x 15) = 18 %.
_GAIN_ROUNDS = 16
# More samples than this at the ends of the range: the record is cut off.
_CLIPPED_SHARE = 1e-3
# Noise below this number of steps leaves the mean off by more than 1e-4 of a step.
_COARSE_STEPS = 0.7
# Levels that determine offset and noise, two numbers; samples at one of them, whose count is then
# known to 18 %.
_LEAST_LEVELS, _LEAST_AT_LEVEL = 3, 30
# Any length that the generator takes: all samples are zero.
_LEVEL_NAME, _LEVEL_SAMPLES = "LEVEL0", 64
# Around the middle of the modulator's slope: a thirtieth of a half-wave voltage of some 3 V, over
# which the slope is a straight line to 0.2 %.
_OFFSET_STEP_V = 0.1
# Their scatter is the error of an offset, to 1/sqrt(2 x 23) = 15 %.
_OFFSET_ROUNDS = 24
# Half of a reading's noise; the rounds average the rest.
_READINGS = 4
# A slope that is known worse than to 5 % is refused.
_LEAST_SLOPE_SIGMA = 20.0
_NAME = "PREAMBLE"


def quantisation_bias_v(step_v: float, noise_v: float) -> float:
    """Return the largest error that a converter's steps leave in a mean of noisy samples, in V.

    (step / pi) exp(-2 pi^2 noise^2 / step^2), the first term of the Fourier series of the dithered
    staircase (Widrow and Kollar, Quantization Noise, 2008, chapter 4); later terms are far less
    once noise is a quarter of a step, and half a step bounds it below.
    """
    if step_v <= 0.0:
        return 0.0
    ratio = noise_v / step_v
    return min(step_v / math.pi * math.exp(-2.0 * (math.pi * ratio) ** 2), step_v / 2.0)


def offset_by_steps(counts: Reals, levels_v: Reals, step_v: float) -> tuple[float, float]:
    """Return centre and standard deviation in V of normal noise that fills a converter's steps.

    `counts` (blocks, levels): samples of each block at each of the voltages `levels_v`, which
    are those of voltages within half a step of `step_v` V. Maximum likelihood.
    Raises CalibrationError for samples at fewer than three levels, which do not determine both.
    """
    total = counts.sum(axis=0)
    if np.count_nonzero(total) < _LEAST_LEVELS:
        raise CalibrationError(
            f"samples at {np.count_nonzero(total)} of a converter's levels: {_LEAST_LEVELS} are "
            "needed to tell offset and noise"
        )
    mean = float(total @ levels_v / total.sum())
    noise_v = math.sqrt(float(total @ (levels_v - mean) ** 2 / total.sum()))
    start = np.array([mean / step_v, math.log(noise_v / step_v)])

    def unlikely(guess: Reals) -> float:
        return -float(total @ _log_shares(levels_v, step_v, guess)) / float(total.sum())

    from scipy import optimize

    centre, log_noise = optimize.fmin(
        unlikely,
        start,
        # Steps of the converter, far below what noise leaves unknown.
        xtol=1e-5,
        ftol=1e-10,
        disp=False,
    )
    return float(centre) * step_v, math.exp(float(log_noise)) * step_v


def _log_shares(levels_v: Reals, step_v: float, guess: Reals) -> Reals:
    """Return logarithms of the shares at levels, by centre and log of the noise, in steps."""
    edge = (levels_v / step_v - guess[0]) / math.exp(guess[1])
    half = 0.5 / math.exp(guess[1])
    # Of the upper half the tail is taken, where differences to 1 would be lost.
    side = np.where(edge > 0.0, -1.0, 1.0)
    share = np.abs(special.ndtr(side * edge + half) - special.ndtr(side * edge - half))
    return np.asarray(np.log(np.maximum(share, 1e-300)))


def offset_error_v(
    counts: Reals, levels_v: Reals, step_v: float, found: tuple[float, float]
) -> float:
    """Return the standard error in V of the centre, from the scatter of the blocks' likelihoods.

    Neighbouring samples are correlated, so that the likelihood alone would give too small an error.
    """
    centre = np.array([found[0] / step_v, math.log(found[1] / step_v)])
    # Central differences over 2e-4 steps: rounding costs 1e-12, curvature 1e-8.
    slopes = np.stack(
        [
            _log_shares(levels_v, step_v, centre + 1e-4 * ahead)
            - _log_shares(levels_v, step_v, centre - 1e-4 * ahead)
            for ahead in np.eye(2)
        ]
    )
    slopes /= 2e-4
    scores = counts @ slopes.T
    shares = np.exp(_log_shares(levels_v, step_v, centre))
    information = float(counts.sum()) * (slopes * shares) @ slopes.T
    influence = scores @ np.linalg.inv(information)[0]
    return float(np.std(influence, ddof=1)) * math.sqrt(len(counts)) * step_v


def converter_step_v(voltage_v: Floats) -> float:
    """Return the least difference between voltages of a record in V, 0 if all are the same."""
    levels = np.unique(voltage_v.astype(np.float64))
    return float(np.min(np.diff(levels))) if len(levels) > 1 else 0.0


def clipped_share(trace: Trace, range_v: float) -> float:
    """Return the share of samples at an end of the range."""
    voltage_v = np.abs(trace.voltage_v)
    # A converter's last step of 8 bits is 0.4 % of its range: at 99 % of either half it is cut off.
    edge_v = 0.495 * range_v
    return float(np.mean(voltage_v >= edge_v))


@dataclass(frozen=True)
class _Dark:
    """One party's oscilloscope in the dark: mean, its error, and the steps' part, by range.

    `freedom`: degrees of freedom of the error.
    """

    offset_v: Reals
    error_v: Reals
    bias_v: Reals
    freedom: Reals


@dataclass(frozen=True)
class _Level:
    """Power in W with one generator output off, at 0 V, below and above it, round by round."""

    off_w: Reals
    zero_w: Reals
    low_w: Reals
    high_w: Reals

    def offset_v(self) -> Quantity:
        """Return the voltage that the output adds to what is set."""
        slope = (self.high_w - self.low_w) / (2.0 * _OFFSET_STEP_V)
        values = (self.zero_w - self.off_w) / float(slope.mean())
        error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        return Quantity.of(
            float(values.mean()), "V", {"rounds": error}, degrees_of_freedom=len(values) - 1
        )


class Electronics:
    """Measures `*.scope_offset_*_v`, `*.scope_gain_*`, and `server.generator_offset_*_v`."""

    name = "electronics"
    title = "generator and oscilloscopes: offsets, relative gains"
    needs: tuple[str, ...] = ()
    roles = (
        "server.laser",
        "server.drive",
        "server.bias_i",
        "server.bias_q",
        "server.monitor",
        "server.digitizer",
        "client.digitizer",
    )
    valid_for_s = 7.0 * DAY_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return nothing: offsets and relative gains depend on no setting."""
        return {}

    def run(self, bench: CalibrationBench) -> Outcome:
        """Record in the dark, then bright in every range, then level both outputs."""
        bench.light_on()
        bench.equipment.server.laser.set_emission(False)
        bench.light_changed()
        dark = {party: _dark(bench, party) for party in PARTIES}
        bench.light_on()
        bench.on_step("one preamble in every range")
        gains = _gains(bench)
        levels = {part: _level(bench, index) for index, part in enumerate(CHILDREN)}
        quantities = _scope_quantities(dark, gains)
        for part, level in levels.items():
            quantities[names.GENERATOR_OFFSET_V.of(part)] = level.offset_v()
        raw: dict[str, Reals] = {"range_v": np.array(_RANGES_V), "amplitude_v": gains}
        for party, found in dark.items():
            raw[f"{party}_offset_v"] = found.offset_v
            raw[f"{party}_offset_error_v"] = found.error_v
        for part, level in levels.items():
            raw[f"level_{part}_w"] = np.stack(
                [level.off_w, level.zero_w, level.low_w, level.high_w]
            )
        hidden = _hidden(dark)
        remarks = (
            *([f"no offset where the converter's steps hide it: {hidden}"] if hidden else []),
            "the generator's gain is part of the half-wave voltages, the oscilloscopes' of the "
            "shot-noise units: the two cannot be separated here",
        )
        return Outcome(quantities, raw, lambda figure: _draw(figure, dark, gains), remarks=remarks)


def _hidden(dark: Mapping[Party, _Dark]) -> str:
    """Return the ranges in which steps hide an offset, by party."""
    return ", ".join(
        f"{party} {range_v:g} V"
        for party, each in dark.items()
        for range_v, offset_v in zip(_RANGES_V, each.offset_v, strict=True)
        if math.isnan(offset_v)
    )


def _dark(bench: CalibrationBench, party: Party) -> _Dark:
    bench.on_step(f"{party}'s oscilloscope in the dark")
    layout = bench.sender.layout(rows=1, modes=1)
    bench.load(_NAME, layout, layout.server_symbols(np.zeros((1, 2), np.float32), 1.0))
    found = []
    for range_v in _RANGES_V:
        bench.recorders[party].range_v = range_v
        traces = [
            bench.record([party], _DARK_DURATION_S)[party]
            for _ in range(bench.count(_DARK_RECORDS, 3))
        ]
        found.append(_offset(traces, range_v, party))
    values = np.array(found)
    return _Dark(*values.T)


def _offset(traces: list[Trace], range_v: float, party: Party) -> tuple[float, float, float, float]:
    """Return mean, its standard error, the steps' part in V, and degrees of freedom of the error.

    Neighbouring samples are correlated. Blocks are longer than the detector remembers: their means
    scatter independently.
    """
    for trace in traces:
        if clipped_share(trace, range_v) > _CLIPPED_SHARE:
            raise CalibrationError(
                f"{party}'s oscilloscope: record in the dark reaches the ends of its range of "
                f"{range_v:g} V: is another light on the detector, its offset set to 0?"
            )
    voltage_v = np.concatenate([trace.voltage_v for trace in traces])
    blocks = [
        float(np.mean(block, dtype=np.float64))
        for trace in traces
        for block in np.array_split(trace.voltage_v, _BLOCKS)
    ]
    error_v = float(np.std(blocks, ddof=1)) / math.sqrt(len(blocks))
    step_v = converter_step_v(voltage_v)
    if step_v == 0.0:
        # All samples in one step: the offset is somewhere in it.
        step_v = range_v / 2**8
    noise_v = float(np.std(voltage_v, dtype=np.float64))
    if noise_v < _COARSE_STEPS * step_v:
        return _by_steps(traces, step_v)
    bias_v = max(quantisation_bias_v(step_v, _analogue_v(noise_v, step_v)) / math.sqrt(2.0), 1e-9)
    return float(np.mean(blocks)), error_v, bias_v, len(blocks) - 1.0


def _by_steps(traces: list[Trace], step_v: float) -> tuple[float, float, float, float]:
    """Return the centre of the noise and its error as `_offset`, NaN where steps hide it."""
    voltage_v = np.concatenate([trace.voltage_v for trace in traces]).astype(np.float64)
    levels_v = np.unique(voltage_v)
    # Rounded to single precision, one level may show as two.
    levels_v = levels_v[np.append(True, np.diff(levels_v) > 0.5 * step_v)]
    edges = np.append(levels_v - 0.5 * step_v, levels_v[-1] + 0.5 * step_v)
    blocks = [
        np.histogram(block, edges)[0]
        for trace in traces
        for block in np.array_split(trace.voltage_v.astype(np.float64), _BLOCKS)
    ]
    counts = np.array(blocks, dtype=np.float64)
    if np.count_nonzero(counts.sum(axis=0) >= _LEAST_AT_LEVEL) < _LEAST_LEVELS:
        return math.nan, math.nan, 0.0, math.nan
    found = offset_by_steps(counts, levels_v, step_v)
    error_v = offset_error_v(counts, levels_v, step_v, found)
    # The rarest of the levels that are needed is the least certain: few blocks reach it.
    third = np.argsort(counts.sum(axis=0))[-_LEAST_LEVELS]
    freedom = max(int(np.count_nonzero(counts[:, third])) - 1, 1)
    return found[0], error_v, 0.0, float(freedom)


def _analogue_v(noise_v: float, step_v: float) -> float:
    """Return the noise before the converter (Sheppard's correction), 0 where steps hide it."""
    # Rounding to steps adds their square over 12.
    return math.sqrt(max(noise_v**2 - step_v**2 / 12.0, 0.0))


def _gains(bench: CalibrationBench) -> Reals:
    """Return the preamble's amplitude at the server in V, (rounds, ranges), NaN if clipped."""
    layout = bench.sender.layout(rows=1, modes=1)
    bench.load(_NAME, layout, layout.server_symbols(np.zeros((1, 2), np.float32), 1.0))
    rounds = bench.count(_GAIN_ROUNDS)
    return np.array(
        [[_amplitude_v(bench, layout, range_v) for range_v in _RANGES_V] for _ in range(rounds)]
    )


def _amplitude_v(bench: CalibrationBench, layout: FrameLayout, range_v: float) -> float:
    recorder = bench.recorders["server"]
    recorder.range_v = range_v
    trace = bench.record(["server"], bench.duration_s(layout))["server"]
    if clipped_share(trace, range_v) > 0.0:
        return math.nan
    return synchronise(trace, layout, bench.equipment.frame.longest_delay_s).amplitude


def _level(bench: CalibrationBench, index: int) -> _Level:
    """Compare a zero that is played, at offsets around 0 V, with the output off, in turns."""
    server = bench.equipment.server
    drive, bias = server.drive, (server.bias_i, server.bias_q)[index]
    channel = drive.channels[index]
    bench.on_step(f"generator output {channel}: offset")
    bench.sender.forget()
    drive.generator.upload(channel, _LEVEL_NAME, np.zeros(_LEVEL_SAMPLES, np.float32))
    # In the middle of a slope, power is straightest in the voltage.
    bias.lock(BiasPoint.QUADRATURE_PLUS)
    bias.hold_voltage(bias.bias_voltage_v())
    try:
        rounds = [_round(bench, channel) for _ in range(bench.count(_OFFSET_ROUNDS, 8))]
    finally:
        bench.sender.forget()
        bias.lock(BiasPoint.NULL)
    level = _Level(*np.array(rounds).T)
    slope_w = level.high_w - level.low_w
    scatter_w = float(np.std(slope_w, ddof=1)) / math.sqrt(len(slope_w))
    if not abs(float(slope_w.mean())) > _LEAST_SLOPE_SIGMA * scatter_w:
        raise CalibrationError(
            f"child {'IQ'[index]}: power changes by {slope_w.mean():.2g} W from -0.1 V to 0.1 V of "
            f"generator output {channel}, noise is {scatter_w:.2g} W: is the laser on, light on "
            "the monitor, the drive connected, the bias not stuck?"
        )
    return level


def _round(bench: CalibrationBench, channel: int) -> Reals:
    """Return powers in W with the output off, at 0 V, below and above.

    The same is read forwards and backwards: what drifts steadily cancels.
    """
    order = (None, 0.0, -_OFFSET_STEP_V, _OFFSET_STEP_V)
    forwards = [_power_at_w(bench, channel, offset_v) for offset_v in order]
    backwards = [_power_at_w(bench, channel, offset_v) for offset_v in reversed(order)]
    return np.asarray((np.array(forwards) + np.array(backwards)[::-1]) / 2.0)


def _power_at_w(bench: CalibrationBench, channel: int, offset_v: float | None) -> float:
    drive = bench.equipment.server.drive
    if offset_v is None:
        drive.generator.set_output(channel, False)
    else:
        drive.generator.play(
            channel,
            _LEVEL_NAME,
            sample_rate_hz=bench.equipment.frame.sample_rate_hz,
            amplitude_v=drive.amplitude_v(_OFFSET_STEP_V),
            offset_v=offset_v,
        )
        drive.generator.set_output(channel, True)
    return bench.mean_power(bench.equipment.server.monitor, _READINGS).power_w


def _scope_quantities(dark: Mapping[Party, _Dark], amplitudes: Reals) -> dict[Name, Quantity]:
    found = {}
    for party, each in dark.items():
        for index, name in enumerate(names.SCOPE_OFFSET_V[party]):
            if math.isnan(each.offset_v[index]):
                continue
            budget = {"noise": float(each.error_v[index]), "steps": float(each.bias_v[index])}
            found[name] = Quantity.of(
                float(each.offset_v[index]),
                "V",
                budget,
                degrees_of_freedom={"noise": float(each.freedom[index])},
                shapes={"steps": Shape.ARCSINE},
            )
    usable = [index for index in range(len(_RANGES_V)) if not np.isnan(amplitudes[:, index]).any()]
    if not usable:
        raise CalibrationError(
            f"server's oscilloscope: the preamble is cut off even in a range of {_RANGES_V[-1]:g} "
            "V: more attenuation, or less gain of the detector"
        )
    reference = usable[-1]
    rounds = len(amplitudes)
    for index in usable[:-1]:
        ratios = amplitudes[:, index] / amplitudes[:, reference]
        error = float(np.std(ratios, ddof=1)) / math.sqrt(rounds)
        found[names.SCOPE_GAIN.of(names.SCOPE_RANGES_MV[index])] = Quantity.of(
            float(ratios.mean()), "1", {"records": error}, degrees_of_freedom=rounds - 1
        )
    return found


def _draw(figure: Figure, dark: Mapping[Party, _Dark], amplitudes: Reals) -> None:
    offset, gain = figure.subplots(1, 2)
    for party, each in dark.items():
        error_v = np.hypot(each.error_v, each.bias_v)
        offset.errorbar(_RANGES_V, 1e6 * each.offset_v, 2e6 * error_v, fmt="o", ms=4, label=party)
    offset.axhline(0.0, lw=0.8, color="0.6")
    offset.set_xscale("log")
    offset.set_yscale("symlog", linthresh=20.0)
    offset.set_xlabel("range / V")
    offset.set_ylabel("offset / µV (k = 2)")
    offset.set_title("Oscilloscopes in the dark")
    offset.legend(loc="upper left")
    ratios = amplitudes / np.nanmean(amplitudes)
    for one in ratios:
        gain.semilogx(_RANGES_V, one, "o", ms=3, color="C0", alpha=0.4)
    gain.set_xlabel("range / V")
    gain.set_ylabel("preamble's amplitude over the mean")
    gain.set_title("Server's oscilloscope: ranges")
