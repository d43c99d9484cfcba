"""Networks rounded to few levels, and what a client reads that decides on the levels.

    python benchmarks/level_networks.py write seven.safetensors --step 2.4
    python benchmarks/level_networks.py measure

`write` rounds each layer of a shipped network to multiples of a step, at most three. `measure` runs
the sessions of docs/attacks.md and prints its rows. The step is in units of the layer's root mean
square. Rows and inputs that carry nothing after rounding are not sent, and what is sent has the
agreed brightness: levels lie less far apart in the light than the step says.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from labctl.cli.attack_options import settings_of
from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import Network, load_network, save_network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import unit_rms
from labctl.protocols.levels import Levels
from labctl.protocols.verification.verdict import VerificationReport
from labctl.studies.attacks.level_decision import LevelDecision
from labctl.studies.attacks.printed import printed_figures
from labctl.studies.attacks.queries import curve_over_queries

GAIN, SEED, FALSE_ALARMS = 1.0048, 0, 1e-3
MOST_STEPS = 3


@dataclass(frozen=True)
class Case:
    """A session: which network, rounded how, in which light, and the share of modes read."""

    model: str
    step: float
    mu: float
    queries: int = 1
    share: float = 1.0

    @property
    def title(self) -> str:
        """What stands in the first column of the page."""
        part = "" if self.share == 1.0 else f", {100.0 * self.share:g} % of the modes"
        return f"{self.model}, step {self.step:g}{part}"


CASES = (
    Case("noise-aware", 5.0, 21.0),
    Case("noise-aware", 5.0, 21.0, 3),
    Case("noise-aware", 2.4, 21.0),
    Case("noise-aware", 2.4, 21.0, 3),
    Case("noise-aware", 2.4, 21.0, 1, 0.02),
    Case("noise-aware", 2.4, 100.0),
    Case("noise-aware", 2.4, 200.0),
    Case("pruned", 3.0, 21.0),
)


@dataclass(frozen=True)
class Read:
    """What a session came to.

    `levels`: of the first layer as sent, `apart`: the least distance of two of them over the root
    mean square. `wrong`: share of the weights sent, `bits`: learned per weight sent. `prior_free`:
    the figure that is printed for these queries at honest noise. `copy`: its accuracy.
    """

    levels: int
    apart: float
    weights: int
    wrong: float
    bits: float
    prior_free: float
    copy: float
    verdict: VerificationReport


def rounded(model: str, step: float) -> Network:
    """Return a shipped network rounded to whole steps of this many root mean squares."""
    layers = []
    for weights in load_network(model).layers:
        unit = step * float(np.sqrt(np.mean(weights.astype(np.float64) ** 2)))
        whole = np.clip(np.round(weights / unit), -MOST_STEPS, MOST_STEPS)
        layers.append((whole * unit).astype(np.float32))
    return Network(tuple(layers), f"{model}, rounded to {step:g}", {})


@cache
def _test_images() -> LabelledImages:
    return load_test_images()


def read(case: Case) -> Read:
    """Run the session of a case."""
    network, images = rounded(case.model, case.step), _test_images()
    settings = settings_of(
        mu=case.mu, gain=GAIN, loss_db=0.0, technical_noise=0.0, calibration_samples=10**8,
        monitor_samples=10**6, seed=SEED, false_alarm_probability=FALSE_ALARMS,
    )  # fmt: skip
    given = LabelledImages(images.images[: case.queries], images.labels[: case.queries])
    (point,) = curve_over_queries(
        LevelDecision(case.share), network, settings, given, [case.queries], test=images
    )
    learned = point.outcome.learned
    assert learned.weights_wrong is not None
    assert learned.weights_bits_discrete is not None
    assert learned.copy_accuracy is not None
    sent = carried(network).network
    first = Levels.of(unit_rms(sent.layers[0]))
    verdict = point.outcome.verification
    printed = printed_figures(network, settings, case.queries, verdict)
    return Read(
        len(first.values),
        float(np.diff(first.values).min()),
        sum(layer.size for layer in sent.layers),
        learned.weights_wrong,
        learned.weights_bits_discrete,
        printed.memory_unchecked,
        learned.copy_accuracy,
        verdict,
    )


def rows() -> Iterator[str]:
    """Yield the rows of the page's table."""
    for case in CASES:
        found = read(case)
        verdict = found.verdict
        yield (
            f"| {case.title} | {found.levels} | {found.apart:.2f} | {case.mu:g} | {case.queries} | "
            f"{found.wrong * found.weights:,.0f} of {found.weights:,} | {found.bits:.2f} | "
            f"{math.ceil(1e3 * found.prior_free) / 1e3:.3f} | {100.0 * found.copy:.1f} % | "
            f"{verdict.excess_noise:.4f} ± {verdict.excess_noise_standard_error:.4f} | "
            f"{'accepted' if verdict.accepted else 'rejected'} |"
        )


def main() -> None:
    """Write a network, or run the sessions."""
    parser = argparse.ArgumentParser(description="Networks of few levels, and their reader.")
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("path", type=Path, help="a .safetensors file")
    writing.add_argument("--model", default="noise-aware")
    writing.add_argument("--step", type=float, required=True)
    commands.add_parser("measure")
    asked = parser.parse_args()
    if asked.command == "measure":
        for row in rows():
            print(row, flush=True)
        return
    save_network(rounded(asked.model, asked.step), asked.path)


if __name__ == "__main__":
    main()
