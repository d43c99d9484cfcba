"""Splitting the light: each row sent R times with mu/R, the client averages.

F stays: each send has F/R and they add up. The noise g/n that an honest client causes per mode
comes with every send, and every send carries x again: R times the rows for who reads labels.

Weights: without noise the Holevo information is concave in mu and 0 without light, so that R sends
at mu/R are bounded by R chi(mu/R) >= chi(mu). R copies of one Gaussian channel, each alike, are one
channel with all the light and R - 1 with none (interfere the copies, which are in phase): the
honest client gets no more than from one send. But the client may put all the noise that it is
allowed, R eps, into the bright one: chi(mu, R eps). A server that checks each send alone has to
take the sum R chi(mu/R, eps), which its bound on a single send gives.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl import checks
from labctl.protocols.leakage import (
    WEIGHTS_PER_MODE,
    Assumptions,
    data_bits_journal,
    weights_bits_per_mode,
)
from labctl.protocols.receiver import Receiver

# A session's light in a million parts; a slip beyond.
_MOST_SENDS = 1_000_000


@dataclass(frozen=True)
class SplitOption:
    """What R sends give. Bits per real weight and query.

    `honest_bits`: of R noisy channels that are alike; `bound_bits`: the sum of the bounds on each
    send, what a server may claim. `rows`: that carry the same input.
    """

    sends: int
    mean_photons: float
    signal_to_noise: float
    excess_noise: float
    honest_bits: float
    bound_bits: float
    rows: int
    data_bits_journal: float


def split_option(
    sends: int,
    *,
    mean_photons: float,
    receiver: Receiver,
    modes: int,
    rows: int,
    transmittance: float,
    technical_noise: float,
    assumptions: Assumptions,
) -> SplitOption:
    """Return what `sends` sends at `mean_photons`/`sends` each give; F adds up over them.

    `transmittance` of the round trip; half its decibels lie before the client.
    """
    checks.within("sends", sends, 1, _MOST_SENDS)

    def bits(photons: float) -> float:
        per_mode = weights_bits_per_mode(
            mean_photons=photons,
            transmittance=transmittance,
            excess_noise=receiver.returned_noise / modes + technical_noise,
            technical_noise=technical_noise,
            assumptions=assumptions,
        )
        return per_mode / WEIGHTS_PER_MODE

    each = mean_photons / sends
    return SplitOption(
        sends=sends,
        mean_photons=each,
        signal_to_noise=sends * receiver.signal_to_noise(each, transmittance**0.5),
        excess_noise=receiver.returned_noise / modes + technical_noise,
        honest_bits=bits(mean_photons),
        bound_bits=sends * bits(each),
        rows=sends * rows,
        data_bits_journal=data_bits_journal(
            receiver.gain, modes, sends * rows, emission_factor=receiver.emission_factor
        ),
    )
