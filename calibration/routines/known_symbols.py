"""Known symbols: random ones that cancel in the mean, and the field that a receiver shows of them.

One quadrature is read, y = Re(s conj(g)) + offset + noise, of known symbols s; g = a + i b is the
complex amplitude in V per unit symbol. The square of a fitted amplitude exceeds the true one's by
the variance of a and b, which is taken off. A residual carrier adds the constant offset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.calibration.fits import Reals
from labctl.dsp.layout import Complexes, Floats, FrameLayout
from labctl.dsp.matched_filter import read_slots
from labctl.errors import CalibrationError
from labctl.instruments.capabilities import Trace

# Of a window: a, b and the offset.
_PARAMETERS = 3
# Below, three parameters take too much of what a window's scatter shows.
_LEAST_PER_WINDOW = 8
# A cubic part of the receiver's response beyond which it is not taken for linear.
_LARGEST_COMPRESSION = 0.03
# A normal error exceeds 5 standard errors with probability 6e-7.
_SIGMAS = 5.0


@dataclass(frozen=True)
class Amplitude:
    """What a fit of known symbols finds.

    `field` in V per unit symbol; `power`: mean square of the windows' amplitudes in V^2, free of
    noise; `residual_v2`: variance of what symbols do not explain, with its `freedom`;
    `walk_rad2`: variance of the phase within a window, by the scatter between windows. `cubic`: of
    a response e + c e^3/<e^2> to the expected value e, c with its standard error.
    """

    field: complex
    power: float
    residual_v2: float
    freedom: int
    walk_rad2: float
    cubic: float
    cubic_error: float


@dataclass(frozen=True)
class _Window:
    """One window's fit: what unit noise adds to its square, residual's and cubes' sums."""

    field: complex
    added: float
    square: float
    along_cubes: float
    cubes: float
    power: float


def random_symbols(
    draw: np.random.Generator, rows: int, modes: int, field: float
) -> npt.NDArray[np.complex64]:
    """Return symbols (rows, modes) of one modulus and any phase, in all of zero mean.

    So a leak of the carrier adds to their mean power without a beat, and a receiver that saturates
    does not follow them. rows * modes must be even.
    """
    half = rows * modes // 2
    symbols = field * np.exp(1j * draw.uniform(0.0, 2.0 * math.pi, half))
    both = np.concatenate([symbols, -symbols])
    draw.shuffle(both)
    return both.reshape(rows, modes).astype(np.complex64)


def normal_symbols(
    draw: np.random.Generator, rows: int, modes: int, field: float
) -> npt.NDArray[np.complex64]:
    """Return normal symbols (rows, modes) of RMS modulus `field`, cut off at three times that."""
    parts = draw.standard_normal((2, rows, modes)) * field / math.sqrt(2.0)
    symbols = parts[0] + 1j * parts[1]
    modulus = np.abs(symbols)
    # One symbol in 8,000 (exp(-9)) is cut off, so that none overdrives the modulator.
    symbols *= np.minimum(1.0, 3.0 * field / np.maximum(modulus, 1e-30))
    found: npt.NDArray[np.complex64] = symbols.astype(np.complex64)
    return found


def frame_of(
    layout: FrameLayout, symbols: npt.NDArray[np.complex64], *, pilots: bool = True
) -> Complexes:
    """Return a frame whose modes carry `symbols` (rows, modes), in units of the largest field."""
    quadratures = np.empty((layout.rows, 2 * layout.modes), np.float32)
    quadratures[:, 0::2], quadratures[:, 1::2] = symbols.real, symbols.imag
    return layout.server_symbols(quadratures, 1.0, pilots=pilots)


def read_rows(trace: Trace, layout: FrameLayout, start_s: float) -> Floats:
    """Return the matched-filter values in V of a frame's rows, (rows, slots of a row)."""
    slots = layout.rows * layout.row_slots
    read = read_slots(trace, layout, start_s, layout.first_row_slot, slots)
    return read.reshape(layout.rows, layout.row_slots)


def check_linear(found: Amplitude, who: str) -> None:
    """Refuse bright light that a receiver compresses; raises CalibrationError, first `who`.

    Symbols of one modulus fit a limited receiver nearly as well as a linear one, with less
    amplitude; the cubic part of its response shows it.
    """
    compressed = -found.cubic
    if compressed > max(_LARGEST_COMPRESSION, _SIGMAS * found.cubic_error):
        raise CalibrationError(
            f"{who}: receiver compresses bright light (cubic part {compressed:.1%} of the linear "
            "one): is the detector saturated, the digitizer's range too small?"
        )


def fit_amplitude(read: Floats, symbols: npt.NDArray[np.complex64], window: int) -> Amplitude:
    """Fit amplitude and phase in windows of `window` symbols (8 or more), (n,) each.

    The last window takes what remains. Raises CalibrationError where symbols do not show both
    quadratures.
    """
    if window < _LEAST_PER_WINDOW or len(read) < _LEAST_PER_WINDOW:
        raise CalibrationError(
            f"{len(read)} symbols in windows of {window}: {_LEAST_PER_WINDOW} or more are needed"
        )
    count = max(len(read) // window, 1)
    fits = [
        _solved(values, known)
        for values, known in zip(
            np.array_split(read, count), np.array_split(symbols, count), strict=True
        )
    ]
    fields = np.array([fit.field for fit in fits])
    added = np.array([fit.added for fit in fits])
    freedom = len(read) - _PARAMETERS * count
    variance = sum(fit.square for fit in fits) / freedom
    power = float(np.mean(np.abs(fields) ** 2 - variance * added))
    mean_square = sum(fit.power for fit in fits) / len(read)
    cubes = max(sum(fit.cubes for fit in fits), 1e-300)
    return Amplitude(
        field=complex(fields.mean()),
        power=power,
        residual_v2=variance,
        freedom=freedom,
        walk_rad2=_walk(fields, variance * added, power),
        cubic=sum(fit.along_cubes for fit in fits) / cubes * mean_square,
        cubic_error=math.sqrt(variance / cubes) * mean_square,
    )


def _solved(read: Floats, symbols: npt.NDArray[np.complex64]) -> _Window:
    design = np.stack([symbols.real, symbols.imag, np.ones(len(read))], axis=1).astype(np.float64)
    normal = design.T @ design
    if not np.linalg.cond(normal[:2, :2]) < 1e6:
        raise CalibrationError(
            "known symbols do not show both X and P: no amplitude can be determined"
        )
    inverse = np.linalg.inv(normal)
    values = read.astype(np.float64)
    solution = inverse @ (design.T @ values)
    left = values - design @ solution
    expected = design[:, :2] @ solution[:2]
    cubes = expected**3
    cubes -= design @ (inverse @ (design.T @ cubes))
    return _Window(
        field=complex(solution[0], solution[1]),
        added=float(inverse[0, 0] + inverse[1, 1]),
        square=float(left @ left),
        along_cubes=float(left @ cubes),
        cubes=float(cubes @ cubes),
        power=float(expected @ expected),
    )


def _walk(fields: npt.NDArray[np.complex128], added: Reals, power: float) -> float:
    """Return a quarter of what phases change between windows by: a walk's variance within one.

    For a Wiener phase of q per window the means of neighbours differ by 2q/3 in variance, and
    within a window it varies by q/6.
    """
    if len(fields) < 2 or not power > 0.0:
        return 0.0
    steps = np.angle(fields[1:] * fields[:-1].conj())
    noise = float(np.mean(added)) / power
    return max(float(np.mean(steps**2)) - noise, 0.0) / 4.0
