"""What the returned light tells an honest server of the data, by the Cramer-Rao bound.

A row returns with covariance 1 + g c c^T: the clone adds noise g n_sp along the unit vector c of
the client's coefficients, b of them in a block, and nothing else depends on the data. Each
coefficient has prior variance 1/b. M rows with the same c give it Fisher information J, and the
figure is (1/2) log2(1 + J/b) bits. The three figures differ in J: the authors' first version,
homodyne of every row (their journal version), and the best measurement that quantum mechanics
allows. All are for one symbol; none protects a label, which all symbols together tell.
"""

from __future__ import annotations

import math

from labctl.protocols.receiver import added_noise


def data_bits_first(
    gain: float, modes: int, *, block_modes: int | None = None, emission_factor: float = 1.0
) -> float:
    """Return bits per data symbol to an honest server, the authors' first version.

    The symbol's power is 1/b; the number of repetitions is the n of the row.

    >>> f"{data_bits_first(2.0, 392):.2e}"
    '7.25e-03'
    """
    symbol_power = 1.0 / (block_modes or modes)
    added = emission_factor * added_noise(gain)
    noise = 1.0 + added * symbol_power
    information = modes * 2.0 * added**2 * symbol_power / noise**4
    return 0.5 * math.log2(1.0 + 2.0 * symbol_power * information)


def data_bits_journal(
    gain: float,
    modes: int,
    rows: int,
    *,
    block_modes: int | None = None,
    emission_factor: float = 1.0,
) -> float:
    """Return bits per data symbol to an honest server that homodynes, PRX 15, 041056 (2025).

    M rows of covariance 1 + g c c^T tell each coefficient of the unit vector c with Fisher
    information M g^2/(1 + g); its prior variance is 1/b.

    >>> round(data_bits_journal(2.0, 392, 784), 3)
    0.5
    """
    noise = emission_factor * added_noise(gain)
    return 0.5 * math.log2(1.0 + rows / (block_modes or modes) * noise**2 / (1.0 + noise))


def data_bits_quantum(
    gain: float,
    modes: int,
    rows: int,
    *,
    block_modes: int | None = None,
    emission_factor: float = 1.0,
) -> float:
    """Return bits per data symbol to an honest server with any receiver (quantum limit).

    >>> round(data_bits_quantum(2.0, 392, 784), 3)
    0.792
    """
    noise = emission_factor * added_noise(gain)
    return 0.5 * math.log2(1.0 + rows / (block_modes or modes) * noise)
