"""The client's receiver: two ways to measure mode b and return it, in closed form.

Amplifier: the mode b that carries the inner product passes a phase-insensitive amplifier of gain G
and a splitter 1 - 1/G : 1/G. The large arm is measured by homodyne, the other returns with net
gain 1. Tap: a splitter taps 1 - tau of mode b, a dual homodyne receiver measures X and P of it, and
the rest is displaced by what was measured, so that its net gain is 1. Both return b with its mean
and with noise added to both quadratures. Variances in shot-noise units; G > 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from labctl import checks
from labctl.errors import SettingError
from labctl.units import db_to_ratio

# 60 dB, beyond any optical amplifier.
MOST_GAIN = 1e6
GAIN_RANGE = f"above 1 (no gain means no measurement), at most {MOST_GAIN:g}"
# Beyond any amplifier.
_MOST_NOISE_FIGURE_DB = 100.0
# Beyond any bench: a receiver that loses or drowns more measures nothing, and readings past 1e19
# leave single precision, in which light is simulated.
_LEAST_EFFICIENCY = 1e-6
MOST_NOISE = 1e6
# Of `TapReceiver.of_gain` at the largest gain.
_LEAST_TAP = 1.0 / (2.0 * MOST_GAIN - 1.0) ** 2
# Least D = (2 G^2 - 3 G + 2)/(G (G - 1)): its derivative is 0 where G^2 - 4 G + 2 = 0.
BEST_GAIN = 2.0 + math.sqrt(2.0)


def added_noise(gain: float) -> float:
    """Return g = 2 - 2/G, the noise that an ideal clone adds to the returned mode b.

    >>> added_noise(2.0), round(added_noise(1.3), 4)
    (1.0, 0.4615)
    """
    return 2.0 - 2.0 / gain


def emission_factor_of_noise_figure(noise_figure_db: float, gain: float) -> float:
    """Return the spontaneous-emission factor n_sp = (G F - 1)/(2 (G - 1)) of a noise figure in dB.

    Desurvire, Erbium-Doped Fiber Amplifiers (1994), section 2.4. Raises SettingError where the
    amplifier would be better than quantum mechanics allows (n_sp < 1), or does not amplify.

    >>> round(emission_factor_of_noise_figure(5.0, 20.0), 3)
    1.638
    """
    checks.require(1.0 < gain <= MOST_GAIN, "gain", gain, GAIN_RANGE)
    limit_db = 10.0 * math.log10((2.0 * (gain - 1.0) + 1.0) / gain)
    if not limit_db - 1e-9 <= noise_figure_db <= _MOST_NOISE_FIGURE_DB:
        valid = f"at least {limit_db:.3f} dB (quantum limit), at most {_MOST_NOISE_FIGURE_DB:g} dB"
        raise SettingError("noise_figure_db", noise_figure_db, valid)
    factor = (gain * db_to_ratio(noise_figure_db) - 1.0) / (2.0 * (gain - 1.0))
    return max(factor, 1.0)


@dataclass(frozen=True)
class Homodyne:
    """A homodyne receiver: quantum efficiency [1e-6, 1], electronic noise [0, 1e6] in SNU."""

    efficiency: float
    electronic_noise: float

    def __post_init__(self) -> None:
        holds = _LEAST_EFFICIENCY <= self.efficiency <= 1.0
        checks.require(holds, "efficiency", self.efficiency, "1e-6 to 1")
        checks.within("electronic_noise", self.electronic_noise, 0.0, MOST_NOISE, note=", in SNU")

    def heterodyne(self) -> Homodyne:
        """Return what each quadrature has where both are read: half of the efficiency."""
        return Homodyne(self.efficiency / 2.0, self.electronic_noise)


IDEAL_HOMODYNE = Homodyne(efficiency=1.0, electronic_noise=0.0)


@dataclass(frozen=True)
class CloneReceiver:
    """Amplifier, splitter and homodyne; `emission_factor` n_sp is 1 at the quantum limit."""

    gain: float
    emission_factor: float
    homodyne: Homodyne

    def __post_init__(self) -> None:
        checks.require(1.0 < self.gain <= MOST_GAIN, "gain", self.gain, GAIN_RANGE)
        checks.require(
            1.0 <= self.emission_factor < math.inf,
            "emission_factor",
            self.emission_factor,
            "1 (quantum limit) or more",
        )

    @property
    def returned_noise(self) -> float:
        """Variance that the clone adds to the returned mode b: n_sp g."""
        return self.emission_factor * added_noise(self.gain)

    @property
    def amplitude_gain(self) -> float:
        """Amplitude of the measured value per unit amplitude of mode b."""
        return math.sqrt(self.homodyne.efficiency * (self.gain - 1.0))

    @property
    def measured_noise(self) -> float:
        """Variance of the measured value for vacuum in mode b.

        (2G^2 - 3G + 2)/G for an ideal amplifier and an ideal homodyne.
        """
        idler = 2.0 * self.emission_factor - 1.0
        arm = (self.gain - 1.0) + (self.gain - 1.0) ** 2 / self.gain * idler + 1.0 / self.gain
        loss = 1.0 - self.homodyne.efficiency
        return self.homodyne.efficiency * arm + loss + self.homodyne.electronic_noise

    @property
    def referred_noise(self) -> float:
        """Noise D referred to mode b; 1.828 at G = 2 + sqrt 2 when all is ideal.

        >>> round(CloneReceiver(BEST_GAIN, 1.0, IDEAL_HOMODYNE).referred_noise, 3)
        1.828
        """
        return self.measured_noise / self.amplitude_gain**2

    def signal_to_noise(self, mean_photons: float, transmittance: float) -> float:
        """Return F = 2 mu T / D, T being the transmittance from server to client."""
        return 2.0 * mean_photons * transmittance / self.referred_noise


@dataclass(frozen=True)
class TapReceiver:
    """Tap of transmittance tau, two equal homodyne detectors, and displacement of what returns.

    With s = sqrt(tau): the value is X' = sqrt(eta (1 - tau)/2) X + noise, the displacement
    (1 - s) sqrt(2/(eta (1 - tau))) times it. Tap and dual homodyne add one vacuum each to the
    returned mode, (1 - s)/(1 + s) SNU; what the detectors lose and add comes back with the
    displacement. X serves the inner product; P, which the displacement needs as well, tells the
    client a second one, that of the row with the inputs of each mode exchanged.
    """

    tap_transmittance: float
    homodyne: Homodyne

    def __post_init__(self) -> None:
        tau = self.tap_transmittance
        if not (_LEAST_TAP <= tau < 1.0 and self.gain > 1.0):
            raise SettingError("tap_transmittance", tau, f"{_LEAST_TAP:.3g} or more and below 1")

    @classmethod
    def of_gain(cls, gain: float, homodyne: Homodyne) -> TapReceiver:
        """Return the tap, tau = 1/(2G - 1)^2, that with ideal detectors adds what gain G adds.

        >>> round(TapReceiver.of_gain(2.0, IDEAL_HOMODYNE).tap_transmittance, 4)
        0.1111
        """
        checks.require(1.0 < gain <= MOST_GAIN, "gain", gain, GAIN_RANGE)
        return cls(1.0 / (2.0 * gain - 1.0) ** 2, homodyne)

    @property
    def gain(self) -> float:
        """Gain G = (1 + s)/(2 s) of the amplifier that adds what ideal detectors add here."""
        root = math.sqrt(self.tap_transmittance)
        return min((1.0 + root) / (2.0 * root), MOST_GAIN)

    @property
    def emission_factor(self) -> float:
        """Factor (1 + v_el)/eta by which the detectors raise the noise that returns."""
        return (1.0 + self.homodyne.electronic_noise) / self.homodyne.efficiency

    @property
    def vacuum_amplitude(self) -> float:
        """Amplitude sqrt((1 - s)/(1 + s)) with which each of the two vacua comes back."""
        root = math.sqrt(self.tap_transmittance)
        return math.sqrt((1.0 - root) / (1.0 + root))

    @property
    def displacement(self) -> float:
        """Displacement of the returned mode per unit of the measured value."""
        return self.vacuum_amplitude * math.sqrt(2.0 / self.homodyne.efficiency)

    @property
    def returned_noise(self) -> float:
        """Variance added to the returned mode b: 2 (1 - s)/(1 + s) (1 + v_el)/eta."""
        return 2.0 * self.vacuum_amplitude**2 * self.emission_factor

    @property
    def amplitude_gain(self) -> float:
        """Amplitude of the measured value per unit amplitude of mode b."""
        return math.sqrt(self.homodyne.efficiency * (1.0 - self.tap_transmittance) / 2.0)

    @property
    def measured_noise(self) -> float:
        """Variance of the measured value for vacuum in mode b."""
        return 1.0 + self.homodyne.electronic_noise

    @property
    def referred_noise(self) -> float:
        """Noise D = 2 (1 + v_el)/(eta (1 - tau)) referred to mode b, the same for X and P."""
        return self.measured_noise / self.amplitude_gain**2

    def signal_to_noise(self, mean_photons: float, transmittance: float) -> float:
        """Return F = 2 mu T / D, T being the transmittance from server to client."""
        return 2.0 * mean_photons * transmittance / self.referred_noise


Receiver = CloneReceiver | TapReceiver


class ReceiverKind(StrEnum):
    """How the client's receiver is built."""

    AMPLIFIER = "amplifier"
    TAP = "tap"


def receiver_of(
    kind: ReceiverKind, gain: float, emission_factor: float, homodyne: Homodyne
) -> Receiver:
    """Return a receiver of the kind; a tap of the transmittance that corresponds to the gain.

    A tap has no amplifier: raises SettingError for an emission factor other than 1.
    """
    if kind is ReceiverKind.AMPLIFIER:
        return CloneReceiver(gain, emission_factor, homodyne)
    if emission_factor != 1.0:
        raise SettingError("emission_factor", emission_factor, "1 for a tap: it has no amplifier")
    return TapReceiver.of_gain(gain, homodyne)
