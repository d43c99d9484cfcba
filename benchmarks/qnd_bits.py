"""What non-demolition readings of a network's principal modes learn, by whole covariance matrices.

The client knows the covariance of the network's rows, turns the light into its principal modes and
couples one ancilla to X and one to P of each, so weakly that the noise at the server is an honest
client's on the mean. Each mode's share of the noise is the best one for its own two variances. What
is learned is the Holevo information of all ancillas of a row about the row, correlations between
modes included. First layer, which holds nearly all light; ideal link. Nothing here is shared with
`labctl.protocols.leakage` but the two bounds it is compared with.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import numpy.typing as npt

from labctl.data.models import Network, load_network
from labctl.protocols.leakage import network_bits_per_mode, prior_free_bits_per_mode, spectrum_of

Reals = npt.NDArray[np.float64]

SETTINGS = [
    ("reference", 4.0, 2.0, 0.0),
    ("noise-aware", 0.57, 1.3, 0.0),
    ("noise-aware", 8.91, 1.0128, 0.0),
    ("noise-aware", 21.0, 1.0048, 0.0),
    ("many-rows", 2.35, 1.024, 0.001),
    ("deep", 0.15, 2.0, 0.0),
]
# The noise of each quadrature is chosen from these, in shot-noise units.
NOISES = np.concatenate([[0.0], np.logspace(-7.0, 1.2, 70)])


def entropy(symplectic: Reals) -> Reals:
    """Return the entropy (bits) of modes with these symplectic eigenvalues (1 or more)."""
    photons = (np.maximum(symplectic, 1.0) - 1.0) / 2.0
    lost = np.where(photons > 0.0, photons * np.log2(np.maximum(photons, 1e-300)), 0.0)
    return np.asarray((photons + 1.0) * np.log2(photons + 1.0) - lost, np.float64)


def eigenvalues(covariance: Reals) -> Reals:
    """Return the symplectic eigenvalues of a covariance; all X before all P."""
    half = len(covariance) // 2
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    form = np.block(
        [[np.zeros((half, half)), np.eye(half)], [-np.eye(half), np.zeros((half, half))]]
    )
    return np.asarray(np.linalg.eigvalsh(1j * (root @ form @ root))[half:], np.float64)


def learned_bits(variances: Reals, noise_x: Reals, noise_p: Reals) -> float:
    """Return what the ancillas of all modes learn of one row, in bits.

    `variances`: covariance of the sent amplitudes, X of all modes before P, in shot-noise units.
    `noise_x`, `noise_p`: what is added to each mode. An ancilla in vacuum couples to X of the mode
    with strength k: it holds x + k X, and P becomes P - k p, p its own other quadrature; a second
    one couples to P with m, holds y + m (P - k p), and X becomes X + m q. Noises: m^2 on X, k^2
    on P.
    """
    modes = len(noise_x)
    k, m = np.sqrt(noise_p), np.sqrt(noise_x)
    known = np.eye(4 * modes)
    at = np.arange(modes)
    known[at, at] += k**2
    known[modes + at, modes + at] += m**2 * (1.0 + k**2)
    known[modes + at, 2 * modes + at] = known[2 * modes + at, modes + at] = -m * k
    held = known.copy()
    strengths = np.concatenate([k, m])
    held[: 2 * modes, : 2 * modes] += strengths[:, None] * variances * strengths
    return float(entropy(eigenvalues(held)).sum() - entropy(eigenvalues(known)).sum())


def one_mode_bits(variance_x: Reals, variance_p: Reals, noise_x: Reals, noise_p: Reals) -> Reals:
    """Return what is learned of a mode whose quadratures are not correlated, by its purification.

    A two-mode squeezed state of thermal variance nu holds the mode and a reference; noise goes on
    the mode, and what the ancillas hold has the entropy of mode and reference together.
    """
    x, p = 1.0 + variance_x, 1.0 + variance_p
    nu = np.sqrt(x * p)
    first, second = nu + noise_x * np.sqrt(p / x), nu + noise_p * np.sqrt(x / p)
    shared = nu**2 - 1.0
    trace = first * second - 2.0 * shared + nu**2
    determinant = (first * nu - shared) * (second * nu - shared)
    spread = np.sqrt(np.maximum(trace**2 - 4.0 * determinant, 0.0))
    both = entropy(np.sqrt((trace + spread) / 2.0)) + entropy(
        np.sqrt(np.maximum((trace - spread) / 2.0, 1.0))
    )
    return np.asarray(both - entropy(np.sqrt((1.0 + noise_x) * (1.0 + noise_p))), np.float64)


def best_noises(variances: Reals, excess_noise: float) -> tuple[Reals, Reals]:
    """Return each mode's noise on X and P, `excess_noise` on the mean, by a price of the noise."""
    modes = len(variances) // 2
    x, p = np.diag(variances)[:modes], np.diag(variances)[modes:]
    noise_x, noise_p = (grid.ravel() for grid in np.meshgrid(NOISES, NOISES, indexing="ij"))
    gain = np.stack([one_mode_bits(a, b, noise_x, noise_p) for a, b in zip(x, p, strict=True)])
    mean = (noise_x + noise_p) / 2.0
    low, high = -12.0, 12.0
    for _ in range(60):
        price = np.exp((low + high) / 2.0)
        chosen = np.argmax(gain - price * mean, axis=1)
        if mean[chosen].mean() > excess_noise:
            low = (low + high) / 2.0
        else:
            high = (low + high) / 2.0
    # From the side of the dear price: never more noise than is allowed.
    chosen = np.argmax(gain - np.exp(high) * mean, axis=1)
    return noise_x[chosen], noise_p[chosen]


def first_layer(network: Network, mean_photons: float) -> Reals:
    """Return the covariance of the first layer's rows in principal modes, all X before all P."""
    weights = network.layers[0].astype(np.float64)
    weights /= np.sqrt(np.mean(weights**2))
    amplitudes = np.sqrt(mean_photons / 2.0) * (weights[:, 0::2] + 1j * weights[:, 1::2])
    _, modes = np.linalg.eigh(amplitudes.T @ amplitudes.conj())
    turned = amplitudes @ modes.conj()
    # Each mode's phase is turned until X is its brighter quadrature.
    turned = turned * np.exp(-0.5j * np.angle(np.mean(turned**2, axis=0)))
    quadratures = 2.0 * np.concatenate([turned.real, turned.imag], axis=1)
    return np.asarray(quadratures.T @ quadratures / len(quadratures), np.float64)


def row(name: str, mean_photons: float, gain: float, extra_noise: float) -> dict[str, float | str]:
    """Return one row of the table, in bit per real weight."""
    network = load_network(name)
    excess = (2.0 - 2.0 / gain) / 392 + extra_noise
    variances = first_layer(network, mean_photons)
    reals = len(variances)
    learned = learned_bits(variances, *best_noises(variances, excess)) / reals
    bound = network_bits_per_mode(spectrum_of(network), mean_photons, 1.0, excess) / 2.0
    worst = prior_free_bits_per_mode(mean_photons, 1.0, excess) / 2.0
    return {
        "network": name,
        "mean_photons": mean_photons,
        "gain": gain,
        "learned": learned,
        "bound_network": bound,
        "bound_prior_free": worst,
    }


def main() -> None:
    """Print a row for each setting, as JSON lines."""
    for setting in SETTINGS:
        sys.stdout.write(json.dumps(row(*setting)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
