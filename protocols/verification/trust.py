"""The same returned light under every assumption: what it proves, and what it most likely means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from labctl.protocols.leakage import Assumptions, LayerShape, Trust, weights_bits_shown
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.verdict import VerificationReport


@dataclass(frozen=True)
class UnderTrust:
    """Bits per real weight under assumptions: at the estimates of T and excess noise, and at most.

    `bits_upper` holds except with the report's failure probability; infinite where the light says
    nothing. Both None where no returned light was read.
    """

    assumptions: Assumptions
    bits_at_estimate: float | None
    bits_upper: float | None


def under_every_trust(
    settings: SessionSettings, shapes: Sequence[LayerShape], report: VerificationReport
) -> tuple[UnderTrust, ...]:
    """Return what the light says with loss and technical noise trusted or not, all four ways."""
    return tuple(
        UnderTrust(
            assumptions,
            _bits(settings, shapes, assumptions, report.transmittance, report.excess_noise),
            _bits(
                settings,
                shapes,
                assumptions,
                report.transmittance_lower,
                report.excess_noise_upper,
            ),
        )
        for assumptions in (Assumptions(*pair) for pair in product(Trust, Trust))
    )


def _bits(
    settings: SessionSettings,
    shapes: Sequence[LayerShape],
    assumptions: Assumptions,
    transmittance: float | None,
    excess_noise: float | None,
) -> float | None:
    if transmittance is None or excess_noise is None:
        return None
    largest = max(settings.block_of(shape.modes) for shape in shapes)
    return weights_bits_shown(
        transmittance,
        excess_noise,
        mean_photons=settings.mean_photons,
        technical_noise=settings.technical_noise,
        assumptions=assumptions,
        client_transmittance=settings.rotation.transmittance(largest),
    )
