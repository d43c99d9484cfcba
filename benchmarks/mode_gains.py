"""Deviations of single modes' gain in honest sessions at mode level: do they have unit variance?

    python benchmarks/mode_gains.py [--sessions 200] [--queries 2] [--seed 9000]

A random network 784-784-10. Of its first layer's 392 modes, in standard deviations as the check
*mode gain* takes them but without its allowance for the clone's noise: variance over all, least and
largest of one mode, and the Kolmogorov-Smirnov p-value of the largest of each session against
that of as many independent normal deviations. Some 0.8 s per session.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import stats

from labctl.data.models import Network
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.session import Session
from labctl.protocols.verification.channel import shot_noise_at_server
from labctl.protocols.verification.gain_deviation import gain_deviations
from labctl.studies.attacks.false_alarms import HONEST

SIZES = (784, 784, 10)
# So well calibrated that its doubt is none.
EXACT = replace(HONEST, verification=replace(HONEST.verification, calibration_samples=10**8))


def random_network(seed: int) -> Network:
    random = np.random.default_rng(seed)
    layers = tuple(
        random.normal(size=(rows, columns)).astype(np.float32) for columns, rows in pairwise(SIZES)
    )
    return Network(layers, "random", {})


def deviations(net: Network, queries: int, seed: int, images: int) -> npt.NDArray[np.float64]:
    """Return the first layer's deviations of one session in standard deviations."""
    settings = replace(EXACT, seed=seed)
    session = Session(net, settings, ModeLink(settings))
    calibration = session.calibrate()
    assert calibration is not None
    data = np.random.default_rng(images).random((queries, SIZES[0])).astype(np.float32)
    for _ in session.run(data):
        pass
    part = session.server.evidence[0]
    unit = shot_noise_at_server(calibration)
    expected, clones = session.expectation(), part.loud_modes / part.blocks.modes
    rest = expected.excess_noise - expected.clone_noise * clones
    white = calibration.blocked_variance * (1.0 + rest / unit)
    sums = part.mode_sums()
    found, variance = gain_deviations(
        part, sums, sums.sent > 0.0, by_row=False, white=white, doubt=0.0
    )
    return found / np.sqrt(variance)


def main() -> None:
    """Run the sessions and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--queries", type=int, default=2)
    parser.add_argument("--seed", type=int, default=9000)
    chosen = parser.parse_args()
    net = random_network(3)
    found = np.array(
        [deviations(net, chosen.queries, chosen.seed + i, i) for i in range(chosen.sessions)]
    )
    by_mode = np.mean(found**2, axis=0)
    tails = 2.0 * stats.norm.sf(np.abs(found).max(axis=1))
    largest = -np.expm1(found.shape[1] * np.log1p(-tails))
    print(f"variance {found.var():.4f} ± {math.sqrt(2.0 / found.size):.4f}")
    print(f"of one mode {by_mode.min():.2f} to {by_mode.max():.2f}")
    print(f"largest of a session: p = {stats.kstest(largest, 'uniform').pvalue:.2f}")


if __name__ == "__main__":
    main()
