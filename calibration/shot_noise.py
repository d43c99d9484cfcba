"""The shot-noise unit of a homodyne receiver, from its noise with and without light on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labctl import checks
from labctl.calibration.quantity import Quantity
from labctl.errors import SignalError
from labctl.units import ratio_to_db

# A 95 % interval: below shot noise by less is scatter, not a detector that saturates.
_SATURATION_SIGMA = 2.0


@dataclass(frozen=True)
class ReceiverCalibration:
    """What is known of a homodyne receiver before it judges light.

    `efficiency`: of detector and mode matching, above 0, at most 1. `electronic_noise`: in SNU.
    `blocked_variance`: variance with the local oscillator on and the signal blocked (all noise that
    the receiver has) in the receiver's own units, from `samples` samples. `electronic_samples`:
    those of the electronic noise, None where it is known exactly. `lo_excess_noise`: the local
    oscillator's intensity noise in SNU, as counted by `counted_excess`.
    """

    efficiency: float
    electronic_noise: float
    blocked_variance: float
    samples: int
    electronic_samples: int | None = None
    lo_excess_noise: float = 0.0

    def __post_init__(self) -> None:
        checks.at_least("calibration samples", self.samples, 2)
        if self.electronic_samples is not None:
            checks.at_least("electronic samples", self.electronic_samples, 2)
        checks.above("efficiency", self.efficiency, 0.0, 1.0)
        checks.not_negative("electronic_noise", self.electronic_noise, ", in SNU")
        checks.positive("blocked_variance", self.blocked_variance)
        checks.above("lo_excess_noise", self.lo_excess_noise, -1.0, note=", in SNU")

    @property
    def blocked_over_shot_noise(self) -> float:
        """The blocked variance in SNU: shot noise, what the local oscillator adds, electronics."""
        return 1.0 + self.lo_excess_noise + self.electronic_noise

    @property
    def clearance_db(self) -> float:
        """Shot plus electronic over electronic noise, in dB."""
        return ratio_to_db((1.0 + self.electronic_noise) / max(self.electronic_noise, 1e-30))

    @property
    def relative_uncertainty(self) -> float:
        """Relative standard uncertainty of the blocked variance: sqrt(2/samples)."""
        return math.sqrt(2.0 / self.samples)


def calibration_from_variances(
    *,
    blocked: float,
    electronic: float,
    samples: int,
    efficiency: float,
    electronic_samples: int | None = None,
    lo_excess_noise: float = 0.0,
) -> ReceiverCalibration:
    """Return the calibration from the variances with light and without, in the same units.

    `samples` and `electronic_samples`: how many each is estimated from; None if known exactly.
    `lo_excess_noise` x in SNU, above -1: of what light adds, B - E, shot noise is (B - E)/(1 + x).
    Raises SignalError when the light on the local oscillator adds no noise.
    """
    if not blocked > electronic:
        raise SignalError(
            f"noise with light on the local oscillator ({blocked:.3g}) is not above that without "
            f"({electronic:.3g}): is the local oscillator connected, the detector switched on?"
        )
    return ReceiverCalibration(
        efficiency=efficiency,
        electronic_noise=electronic * (1.0 + lo_excess_noise) / (blocked - electronic),
        blocked_variance=blocked,
        samples=samples,
        electronic_samples=electronic_samples,
        lo_excess_noise=lo_excess_noise,
    )


def counted_excess(excess: Quantity) -> float:
    """Return what of a measured intensity noise of the local oscillator is taken off, in SNU.

    Below 0 by more than 2 standard uncertainties it is a detector that saturates: lost carriers
    take their shot noise with them, so nothing must be subtracted.
    """
    saturates = excess.value < -_SATURATION_SIGMA * excess.standard_uncertainty
    return 0.0 if saturates else excess.value


def shot_noise_unit(
    blocked: Quantity, electronic: Quantity, excess: Quantity
) -> tuple[Quantity, Quantity]:
    """Return the shot noise, in the unit of the variances, and the electronic noise in SNU.

    S = (B - E)/(1 + x) and E/S, `excess` x being the local oscillator's intensity noise in SNU, as
    counted by `counted_excess`. Raises SignalError when light adds no noise.
    """
    more = blocked.value - electronic.value
    if not more > 0.0:
        raise SignalError(
            f"noise with light on the local oscillator ({blocked}) is not above that without "
            f"({electronic}): is the local oscillator connected, the detector switched on?"
        )
    scale = 1.0 + counted_excess(excess)
    shot = more / scale
    snu = electronic.value / shot
    sources = {
        "blocked variance": blocked.standard_uncertainty,
        "electronic noise": electronic.standard_uncertainty,
        "excess noise": more * excess.standard_uncertainty / scale,
    }
    by_source = (-snu / more, snu * blocked.value / (electronic.value * more), snu / more)
    return (
        Quantity.of(shot, blocked.unit, {name: part / scale for name, part in sources.items()}),
        Quantity.of(
            snu,
            "SNU",
            {
                name: abs(slope) * part
                for (name, part), slope in zip(sources.items(), by_source, strict=True)
            },
        ),
    )
