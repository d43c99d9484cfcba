"""What the light of a session says of labels, by the shipped curve: one figure per receiver.

Every figure names the mismatch of the clone that it is for: none is real at a mismatch of 0. What
a bench's calibration supports is that end of its 95 % interval which reads more: at the same size a
net gain above 1 does, since its amplifier adds noise twice where a loss gives back what the kick
lost. Without a calibration, the mismatch that is stated, by default a splice of 0.02 dB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from labctl.calibration import names
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.data.models import Network
from labctl.protocols.client import directions_of
from labctl.protocols.encoding import Floats
from labctl.protocols.labels.curve import load_curves
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.mismatch import CloneMismatch
from labctl.protocols.server import Server
from labctl.protocols.settings import SessionSettings

# A splice in standard fibre, 0.02 dB: 0.23 % of amplitude.
TYPICAL_MISMATCH = CloneMismatch(gain_error=0.002)
# Images whose mean tells how rows lie along images, and the only size that the curve is of.
_IMAGES = 500
# Curves were measured with pictures of 28 by 28 pixels.
_PIXELS = 784


@dataclass(frozen=True)
class LabelFigure:
    """The share of labels that one way of reading names, from one sending of an image.

    at_least: whether the evidence is beyond the curve's last point, so that more may be read.
    """

    receiver: Detection
    success: float
    standard_error: float
    mismatch: CloneMismatch
    at_least: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the figure as plain values, with the mismatch that it is for."""
        return {
            "receiver": str(self.receiver),
            "label_success": self.success,
            "standard_error": self.standard_error,
            "at_least": self.at_least,
            "gain_error": self.mismatch.gain_error,
            "phase_error_rad": self.mismatch.phase_rad,
        }


def mode_overlap(network: Network, images: Floats) -> float:
    """Return Q: the mean of |c^dagger w|^2 over images (B, N) and first rows of unit RMS weights.

    Rows that know nothing of images have 2; trained rows lie along images and have more. Mode b
    gets mu Q/2 photons from a row on average. The first 500 images are looked at, of each the
    values that are fed.
    """
    # Half a photon per mode makes quadratures of unit RMS.
    server = Server(network, 0.5)
    rows = server.light(0).quadratures.view(np.complex64)
    c = directions_of(server.carried.inputs.taken(images[:_IMAGES]), None)
    return float(np.mean(np.abs(c.conj() @ rows.T) ** 2))


def label_figures(
    network: Network,
    images: Floats,
    settings: SessionSettings,
    *mismatches: CloneMismatch,
) -> tuple[LabelFigure, ...]:
    """Return the figures of one sending, for whole rows and images of the curve's size, else none.

    Of several mismatches each receiver gets the one that it reads most by; of none, the typical. A
    counter is one without background: the light is nulled and there are no dark counts.
    """
    light, verifier = Server(network, settings.light.mean_photons).light(0), settings.verifier
    if settings.block_of(light.modes) < light.modes or images.shape[1] != _PIXELS:
        return ()
    leg = settings.leg_transmittance_of(light.modes)
    photons = 0.5 * settings.light.mean_photons * leg * mode_overlap(network, images)
    curves, figures = load_curves(), []
    for kind in Detection:
        counting = kind is Detection.COUNTING
        technical = (
            verifier.electronic_noise + verifier.efficiency * settings.channel.technical_noise
        )
        readings = [
            Reading(
                gain=settings.receiver.gain,
                rows=light.rows,
                transmittance=leg * verifier.efficiency,
                technical_noise=0.0 if counting else technical,
                emission_factor=settings.receiver.emission_factor,
                receiver=kind,
                mismatch=mismatch,
                mode_photons=photons,
            )
            for mismatch in mismatches or (TYPICAL_MISMATCH,)
        ]
        reading = max(readings, key=lambda one: one.evidence)
        curve = curves.curve(kind)
        found, beyond = curve.at(reading), reading.evidence > curve.evidence[-1]
        figures.append(
            LabelFigure(kind, found.share, found.standard_error, reading.mismatch, beyond)
        )
    return tuple(figures)


def supported_mismatches(known: Mapping[Name, Quantity]) -> tuple[CloneMismatch, ...]:
    """Return both ends of the 95 % interval of a clone's net gain, at the phase farthest off.

    Evidence is convex in the net gain (its kick rises with it, faster above 1; what the rows show
    is its square), so that no value within the interval reads more than both ends do. Empty without
    a calibration.
    """
    gain = known.get(names.CLONE_GAIN_ERROR)
    phase = known.get(names.CLONE_PHASE_RAD)
    if gain is None or phase is None:
        return ()
    phase_rad = math.remainder(max(phase.interval(), key=abs), 2.0 * math.pi)
    return tuple(CloneMismatch(gain_error, phase_rad) for gain_error in gain.interval())


def in_words(mismatch: CloneMismatch) -> str:
    """Return a clone's net gain and phase as a phrase."""
    if mismatch.matched:
        return "clone matched exactly (delta 0, which no real clone is)"
    phase = f", phase {mismatch.phase_rad:.2g} rad" if mismatch.phase_rad else ""
    return f"clone's net gain off by delta = {100.0 * mismatch.gain_error:.2g} %{phase}"
