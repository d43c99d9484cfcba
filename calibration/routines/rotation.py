"""The client's rotation: fidelity of the mode that it collects, and loss per mode.

One frame of known symbols s holds rows of b modes that pass untouched, then rows that are rotated
by random unit coefficients c. At the server all of the rotated rows' light comes back weaker by
10^(-b l/10) in amplitude, in and out together, l being the loss per mode in dB, and by the clone's
net gain, which only untouched rows have in all slots: errors of the
rotation are undone on the way out. At the client the readout slots hold z = sum conj(c_k) s_k times
t Re<c, c'>, t being the amplitude of one way and c' the mode that is really collected; its
amplitude over that of the untouched rows, over t, is the fidelity, 1 for a perfect rotation. So t
is 10^(-b l/20) by the loss per mode that all blocks show: what returns of one block alone has the
net gain in it as well, and would make the fidelity wrong by half of its error.

Errors of the elements, coupler angle or phase, of standard deviation sigma each leave the fidelity
mean_k exp(-sigma^2 k/2), k = 1 ... b (as `protocols.rotation` derives), which gives sigma.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import special

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.fits import Reals
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import DAY_S, Outcome
from labctl.calibration.routines.known_symbols import (
    Amplitude,
    check_linear,
    fit_amplitude,
    frame_of,
    random_symbols,
    read_rows,
)
from labctl.calibration.routines.records import PARTIES, fit_ranges, record, sync_of
from labctl.calibration.routines.rotated_rows import (
    amplifying,
    forget_rotation,
    load_rotation,
    random_coefficients,
    require_light,
)
from labctl.dsp.layout import Floats, FrameLayout
from labctl.errors import CalibrationError
from labctl.units import PER_DB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRAME = "ROTATION"
# At G = 2 the readout has as much light as comes in.
_GAIN = 2.0
# Where the arcsine drive and the detector are linear.
_FIELD = 0.3
# 13 us at 20 MBd, in which the phase has to keep still.
_WINDOW = 256
# Modes of a row of 784 pixels.
FULL_BLOCK = 392
# Sizes of blocks, of the full one: loss per mode is the slope over three of them.
_SHARES = (1.0 / 8.0, 1.0 / 2.0, 1.0)
# Slots that are rotated per record, for any block; a quarter of that stays as it is.
_ROTATED_SLOTS = 32 * FULL_BLOCK
# The scatter between 16 rows is known to 18 %; the smallest of the blocks has 256 at full effort.
_LEAST_ROTATED_ROWS, _MOST_ROTATED_ROWS = 16, 256
# Records, each with its own coefficients.
_DRAWS = 16
# Of the expected amplitude: less means that the rotation does not collect.
_LEAST_COLLECTED = 0.1
# An interval of this confidence beyond a physical limit is refused.
_CERTAIN = 0.9999
# Chance below which scatter is not taken for chance.
_UNLIKELY = 1e-3
# Noise may make a fidelity 0 or less, which no error of elements leaves.
_LEAST_FIDELITY = 1e-3


@dataclass(frozen=True)
class Share:
    """What one record's readouts show of the collected light.

    `weight`: 1 over the variance of `value` for readouts with a noise of 1 V^2: a few of them show
    more or less, as random coefficients will have it. `square`: what the fit leaves, in V^2, with
    its `freedom`.
    """

    value: float
    weight: float
    square: float
    freedom: int


@dataclass(frozen=True)
class _Block:
    """What several random coefficients show for blocks of `modes`.

    `collected`: t Re<c, c'> of each, with its data; `returned`: amplitude ratio of the light
    that comes back.
    """

    modes: int
    shares: tuple[Share, ...]
    returned: Reals

    @property
    def collected(self) -> Reals:
        """Each draw's t Re<c, c'>."""
        return np.array([share.value for share in self.shares])

    @property
    def weights(self) -> Reals:
        """1 over the variance of each, for readouts with a noise of 1 V^2."""
        return np.array([share.weight for share in self.shares])

    def mean_collected(self) -> tuple[float, float, int]:
        """Return the weighted mean, its standard error, and the degrees of freedom of that.

        Readouts show their noise by what a draw's fit leaves and by the draws' scatter, which both
        count, unless draws scatter by more than noise makes likely: then that alone.
        """
        mean = float(np.average(self.collected, weights=self.weights))
        between = float(self.weights @ (self.collected - mean) ** 2)
        within = sum(share.square for share in self.shares)
        draws, left = len(self.shares) - 1, sum(share.freedom for share in self.shares)
        if left == 0 or special.fdtrc(draws, left, between / draws / max(within / left, 1e-300)) < (
            _UNLIKELY
        ):
            within, left = 0.0, 0
        error = math.sqrt((between + within) / (draws + left) / float(self.weights.sum()))
        return mean, error, draws + left


def fidelity_of(error_rad: float, modes: int) -> float:
    """Return mean_k exp(-sigma^2 k/2), k = 1 ... `modes`: fidelity for errors of sigma in rad."""
    return float(np.mean(np.exp(-0.5 * error_rad**2 * np.arange(1, modes + 1))))


def error_of(fidelity: float, modes: int) -> float:
    """Return the error in rad that leaves a fidelity (above 0); 0 from 1 on."""
    from scipy import optimize

    if fidelity >= 1.0:
        return 0.0
    return float(
        optimize.brentq(lambda error: fidelity_of(error, modes) - fidelity, 0.0, math.pi * 4.0)
    )


def collected_share(read: Floats, wanted: npt.NDArray[np.complex128], reference: complex) -> Share:
    """Return the real part of (field of `wanted` in the readouts) / `reference`.

    `read` (rows,): readout values in V; `wanted` (rows,): what a perfect rotation collects;
    `reference`: the field of single symbols, as `Amplitude.field`.
    """
    design = np.stack([wanted.real, wanted.imag, np.ones(len(read))], axis=1)
    inverse = np.linalg.pinv(design.T @ design)
    solution = inverse @ (design.T @ read.astype(np.float64))
    along = np.array([reference.real, reference.imag, 0.0]) / abs(reference) ** 2
    left = read - design @ solution
    return Share(
        float(along @ solution),
        1.0 / float(along @ inverse @ along),
        float(left @ left),
        max(len(read) - 3, 0),
    )


class RotationFidelity:
    """Measures `client.rotation_fidelity` and `client.rotation_loss_db_per_mode`.

    The fidelity is that of blocks of `full_block` modes; `client.rotation_error_rad` is the
    standard deviation of each element's error that implies it.
    """

    name = "rotation"
    title = "client's rotation: fidelity and loss per mode"
    needs: tuple[str, ...] = ("half_wave_voltage",)
    roles = (
        "server.laser",
        "server.drive",
        "server.digitizer",
        "client.rotation",
        "client.gain",
        "client.digitizer",
    )
    valid_for_s = 7.0 * DAY_S

    def __init__(self, full_block: int = FULL_BLOCK) -> None:
        self._full_block = full_block

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return the block's size and the slots' rate, to which the unit is built."""
        return {
            "client.block_modes": self._full_block,
            "frame.symbol_rate_hz": bench.equipment.frame.symbol_rate_hz,
            "server.laser_frequency_hz": bench.equipment.server.laser_frequency_hz,
        }

    def run(self, bench: CalibrationBench) -> Outcome:
        """Rotate blocks of several sizes by random coefficients."""
        sizes = sorted({max(round(share * self._full_block), 2) for share in _SHARES})
        with amplifying(bench, _GAIN):
            blocks = [_measured(bench, modes) for modes in sizes]
        loss = _loss(blocks)
        fidelity = _fidelity(blocks[-1], loss)
        quantities = {
            names.ROTATION_LOSS_DB_PER_MODE: _at_least_zero(loss),
            names.ROTATION_FIDELITY: _at_most_one(fidelity),
            names.ROTATION_ERROR_RAD: _error(_at_most_one(fidelity), self._full_block),
        }
        return Outcome(
            quantities,
            _raw(blocks),
            lambda figure: _draw(figure, blocks, quantities),
            remarks=_remarks(loss, fidelity, blocks),
        )


def _measured(bench: CalibrationBench, modes: int) -> _Block:
    bench.on_step(f"blocks of {modes} modes")
    slots = _ROTATED_SLOTS * min(4.0 * bench.effort, 1.0)
    rotated = min(max(round(slots / modes), _LEAST_ROTATED_ROWS), _MOST_ROTATED_ROWS)
    untouched = max(rotated // 4, 2)
    layout = bench.sender.layout(rows=untouched + rotated, modes=modes)
    symbols = random_symbols(bench.draw, layout.rows + layout.rows % 2, modes, _FIELD)
    symbols = symbols[: layout.rows]
    forget_rotation(bench)
    bench.load(_FRAME, layout, frame_of(layout, symbols))
    arrival_s = _prepare(bench, layout)
    draws = bench.count(_DRAWS)
    shares: list[Share] = []
    returned = np.empty(draws)
    for draw in range(draws):
        coefficients = random_coefficients(bench, modes)
        load_rotation(bench, layout, coefficients, arrival_s, untouched)
        share, returned[draw] = _shares(bench, layout, symbols, coefficients, untouched)
        shares.append(share)
    block = _Block(modes, tuple(shares), returned)
    mean, *_ = block.mean_collected()
    if not mean > _LEAST_COLLECTED:
        raise CalibrationError(
            f"client: blocks of {modes} modes collect {mean:.2g} of what they should: "
            "are both of the rotation's controls connected, is its generator triggered by the "
            "server's, its slot rate that of the frames?"
        )
    return block


def _prepare(bench: CalibrationBench, layout: FrameLayout) -> float:
    """Fit both ranges and return when light arrives at the client, in s after the trigger."""
    duration_s = bench.duration_s(layout)
    starts: list[float] = []
    for traces in fit_ranges(bench, PARTIES, duration_s, rounds=4, kept=3)[1:]:
        found = {party: sync_of(bench, party, traces[party], layout) for party in PARTIES}
        starts.append(found["client"].start_s)
    arrival_s = float(np.median(starts)) - bench.equipment.client.constants.detector_delay_s
    return max(arrival_s, 0.0)


def _shares(
    bench: CalibrationBench,
    layout: FrameLayout,
    symbols: npt.NDArray[np.complex64],
    coefficients: npt.NDArray[np.complex128],
    untouched: int,
) -> tuple[Share, float]:
    """Return one record's t Re<c, c'> at the client and amplitude ratio at the server."""
    traces = record(bench, PARTIES, bench.duration_s(layout))
    fields = {}
    for party in PARTIES:
        start_s = sync_of(bench, party, traces[party], layout).start_s
        rows = read_rows(traces[party], layout, start_s)
        fields[party, "rows"] = rows
    client, server = fields["client", "rows"], fields["server", "rows"]
    reference = _amplitude(layout, client[:untouched], symbols[:untouched])
    before = _amplitude(layout, server[:untouched], symbols[:untouched])
    after = _amplitude(layout, server[untouched:], symbols[untouched:])
    for party, amplitude in (("client", reference), ("server", before), ("server", after)):
        require_light(party, amplitude)
        check_linear(amplitude, party)
    wanted = symbols[untouched:].astype(np.complex128) @ coefficients.conj()
    readouts = client[untouched:, layout.readout_offsets[0]]
    collected = collected_share(readouts, wanted, reference.field)
    return collected, math.sqrt(max(after.power, 0.0) / before.power)


def _amplitude(layout: FrameLayout, rows: Floats, symbols: npt.NDArray[np.complex64]) -> Amplitude:
    return fit_amplitude(rows[:, layout.mode_offsets].ravel(), symbols.ravel(), _WINDOW)


def _loss(blocks: list[_Block]) -> Quantity:
    """Return the slope of -10 log10(returned) over the block's size in dB per mode.

    Not from 0: untouched rows pass the idle clone with its net gain 1 + delta, rotated ones but for
    one mode do not, which adds 10 log10(1 + delta) at any size.
    """
    modes = np.concatenate([np.full(len(each.returned), each.modes) for each in blocks])
    loss_db = np.concatenate([-10.0 * np.log10(each.returned) for each in blocks])
    # The same number of slots is rotated for any block: all records scatter alike.
    away = modes - np.mean(modes)
    squares, common = float(np.sum(away**2)), float(np.mean(loss_db))
    slope = float(np.sum(away * loss_db)) / squares
    freedom = len(loss_db) - 2
    left = loss_db - common - slope * away
    error = math.sqrt(float(np.sum(left**2)) / freedom / squares)
    return Quantity.of(slope, "dB", {"records": error}, degrees_of_freedom=freedom)


def _fidelity(block: _Block, loss: Quantity) -> Quantity:
    """Return Re<c, c'> of a block, averaged over coefficients; `loss` per mode in dB."""
    through = 10.0 ** (-block.modes * loss.value / 20.0)
    collected, error, freedom = block.mean_collected()
    mean, scatter = collected / through, error / through
    doubt = 0.5 * PER_DB * block.modes * loss.standard_uncertainty
    return Quantity.of(
        mean,
        "1",
        {"readouts": scatter, "loss": mean * doubt},
        degrees_of_freedom={"readouts": freedom, "loss": loss.degrees_of_freedom},
    )


def _at_least_zero(loss: Quantity) -> Quantity:
    if loss.interval(_CERTAIN)[1] < 0.0:
        raise CalibrationError(
            f"rotated light comes back brighter, by {loss} per mode: is the rotation's generator "
            "on time, does the light's power drift?"
        )
    return loss.within(least=0.0)


def _at_most_one(fidelity: Quantity) -> Quantity:
    if fidelity.interval(_CERTAIN)[0] > 1.0:
        raise CalibrationError(
            f"rotation collects {fidelity} of the light that is there: does the client's receiver "
            "saturate, is the gain steady over a frame?"
        )
    return fidelity.within(most=1.0)


def _error(fidelity: Quantity, modes: int) -> Quantity:
    """Return what each element is off by, with the ends of the fidelity's interval as its own.

    Near a fidelity of 1 the error is a square root, whose slope is infinite: the standard
    uncertainty that is stated makes an interval as long as that between the two ends.
    """
    worst, best = fidelity.interval()
    low, high = (error_of(max(end, _LEAST_FIDELITY), modes) for end in (best, worst))
    value = error_of(max(fidelity.value, _LEAST_FIDELITY), modes)
    found = Quantity.of(
        value,
        "rad",
        {"fidelity": (high - low) / 2.0 / fidelity.coverage_factor()},
        degrees_of_freedom=fidelity.degrees_of_freedom,
    )
    return replace(found, span=(low, high))


def _remarks(loss: Quantity, fidelity: Quantity, blocks: list[_Block]) -> tuple[str, ...]:
    remarks = []
    if loss.value < 0.0:
        remarks.append("loss measured below 0 by chance: 0 is kept")
    if fidelity.value > 1.0:
        remarks.append("fidelity measured above 1 by chance: 1 is kept")
    remarks.append(
        "fidelity of smaller blocks: "
        + ", ".join(f"{each.modes} modes {_fidelity(each, loss)}" for each in blocks[:-1])
    )
    return tuple(remarks)


def _raw(blocks: list[_Block]) -> dict[str, np.ndarray]:
    raw: dict[str, np.ndarray] = {"modes": np.array([each.modes for each in blocks])}
    for each in blocks:
        raw[f"collected_{each.modes}"] = each.collected
        raw[f"collected_weights_{each.modes}"] = each.weights
        raw[f"returned_{each.modes}"] = each.returned
    return raw


def _draw(figure: Figure, blocks: list[_Block], found: Mapping[Name, Quantity]) -> None:
    light, mode = figure.subplots(2, 1, sharex=True)
    largest = blocks[-1].modes
    fine = np.linspace(0.0, 1.05 * largest, 200)
    slope = found[names.ROTATION_LOSS_DB_PER_MODE]
    every = np.concatenate([np.full(len(each.returned), each.modes) for each in blocks])
    lost_db = np.concatenate([-10.0 * np.log10(each.returned) for each in blocks])
    start_db = float(np.mean(lost_db - slope.value * every))
    light.plot(fine, start_db + slope.value * fine, label=f"{slope} per mode")
    for each in blocks:
        loss_db = -10.0 * np.log10(each.returned)
        light.errorbar(each.modes, loss_db.mean(), np.std(loss_db, ddof=1), fmt="o", color="C1")
        fidelity = each.collected * 10.0 ** (each.modes * slope.value / 20.0)
        mode.plot(np.full(len(fidelity), each.modes), fidelity, ".", color="C0", alpha=0.4)
        mean = _fidelity(each, slope)
        mode.errorbar(each.modes, mean.value, mean.standard_uncertainty, fmt="o", color="C1")
    error_rad = found[names.ROTATION_ERROR_RAD]
    curve = [fidelity_of(error_rad.value, max(round(size), 1)) for size in fine]
    mode.plot(fine, curve, color="C2", label=f"elements off by {error_rad}")
    light.set_ylabel("loss one way / dB")
    light.set_title("Light that comes back")
    light.legend(fontsize="small")
    mode.set_ylabel("fidelity")
    mode.set_xlabel("modes of a block")
    mode.set_title("Mode that is collected")
    mode.legend(fontsize="small")
