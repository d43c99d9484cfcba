"""Mode-level speed as ratios in one run: against its matrix products and its random numbers.

    python benchmarks/mode_level.py [--images 10000] [--verified 100] [--rounds 5]

Each figure is timed in turn with its yardstick, round by round, in time of this process alone;
medians and the median of the ratios are printed. The yardsticks use the same NumPy, the same types
and the same batch size; that of sums by weight is the same run and verdict without all that needs
them. Their share is also timed call by call within one run, over all else of that run: the load of
the machine is then the same for both.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from unittest import mock

import numpy as np

from labctl.data.mnist import load_test_images
from labctl.data.models import Network, load_network
from labctl.protocols.disguise import FRESH_ORDER, PLAIN, Disguise
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.server import varying_evidence
from labctl.protocols.session import BATCH_IMAGES, Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.protocols.verification import evidence, gain_deviation, verdict

_WORST = Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED)


class NoSums:
    """Keeps nothing of single weights."""

    def __init__(self, rows: int, columns: int) -> None:
        self.shape = rows, columns

    def begin(self, *query: object) -> None:
        """Keep nothing."""

    def add(self, first: int, left: Floats) -> None:
        """Keep nothing."""


def nothing(*arguments: object) -> None:
    """Find nothing."""


def alone(*arguments: object) -> object:
    """Return the deviations of rows as they are."""
    return arguments[-1]


@contextmanager
def without_sums() -> Iterator[None]:
    with (
        mock.patch.object(evidence, "RowSums", NoSums),
        mock.patch.object(varying_evidence, "PlacedSums", NoSums),
        mock.patch.object(verdict, "_sums_of", nothing),
        mock.patch.object(evidence.LayerEvidence, "mode_gains", nothing),
        mock.patch.object(gain_deviation, "_of_rows", alone),
    ):
        yield


def settings(sampling: Sampling) -> SessionSettings:
    return SessionSettings(
        light=Light(4.0, PLAIN),
        channel=Channel(),
        receiver=CloneReceiver(2.0, 1.0, IDEAL_HOMODYNE),
        verifier=IDEAL_HOMODYNE,
        assumptions=_WORST,
        sampling=sampling,
        seed=0,
    )


def session_of(
    network: Network, images: Floats, sampling: Sampling, disguise: Disguise = PLAIN
) -> Session:
    plain = settings(sampling)
    chosen = replace(plain, light=replace(plain.light, disguise=disguise))
    session = Session(network, chosen, ModeLink(chosen))
    size = BATCH_IMAGES if sampling is Sampling.MEASURED else 32
    for _ in session.run(images, batch_images=size):
        pass
    return session


class Share:
    """Times what sums by weight need within a run, in seconds of this process, `parts` by name."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._inside = False

    def timed(self, name: str, work: Callable[..., object]) -> Callable[..., object]:
        """Return `work` with its time counted; not what it takes inside another that is counted."""

        def run(*arguments: object) -> object:
            if self._inside:
                return work(*arguments)
            self._inside, started = True, time.process_time()
            try:
                return work(*arguments)
            finally:
                self._inside = False
                self.parts[name] = self.parts.get(name, 0.0) + time.process_time() - started

        return run

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count all of it in the runs that follow."""
        with ExitStack() as stack:
            for name, owner, method in _OF_SUMS:
                timed = self.timed(name, getattr(owner, method))
                stack.enter_context(mock.patch.object(owner, method, timed))
            yield


_OF_SUMS = (
    ("begin a query", evidence.LayerEvidence, "_begin_weights"),
    ("begin a query", varying_evidence.VaryingEvidence, "_begin_weights"),
    ("add residuals", evidence.LayerEvidence, "_add_weights"),
    ("add residuals", varying_evidence.VaryingEvidence, "_add_weights"),
    ("power", verdict, "_sums_of"),
    ("bound", verdict, "collective_noise"),
    ("rows", gain_deviation, "_of_rows"),
    ("modes", gain_deviation, "_of_modes"),
)


def show_share(name: str, work: Callable[[], None], rounds: int) -> None:
    work()
    found = []
    for _ in range(rounds):
        share = Share()
        with share.counted():
            whole = seconds(work)
        own = sum(share.parts.values())
        found.append((own / (whole - own), own, whole - own, share.parts))
    ratio, own, rest, parts = sorted(found, key=lambda each: each[0])[rounds // 2]
    print(f"{name:<52} {own:8.3f} s {rest:8.3f} s {1.0 + ratio:7.3f}")
    shown = ", ".join(f"{part} {1e3 * taken:.0f} ms" for part, taken in parts.items())
    print(f"    {own / (own + rest):.1%} of the run: {shown}")


def protocol(network: Network, images: Floats, sampling: Sampling) -> None:
    session_of(network, images, sampling).verdict()


def summed(network: Network, images: Floats, disguise: Disguise) -> None:
    session_of(network, images, Sampling.ALL, disguise).verdict()


def unsummed(network: Network, images: Floats, disguise: Disguise) -> None:
    with without_sums():
        session_of(network, images, Sampling.ALL, disguise).verdict()


def products_and_numbers(network: Network, images: Floats) -> None:
    generator = np.random.Generator(np.random.SFC64(0))
    for first in range(0, len(images), BATCH_IMAGES):
        values = images[first : first + BATCH_IMAGES]
        for weights in network.layers:
            values = values @ weights.T
            generator.standard_normal(values.shape, dtype=np.float32)


def normals(network: Network, images: Floats) -> None:
    generator = np.random.Generator(np.random.SFC64(0))
    buffers = [np.empty((len(w), (w.shape[1] + 1) // 2), np.float32) for w in network.layers]
    for _ in images:
        for buffer in buffers:
            generator.standard_normal(out=buffer, dtype=np.float32)


def seconds(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def compare(
    name: str, work: Callable[[], None], yardstick: Callable[[], None], rounds: int
) -> None:
    work()
    yardstick()
    pairs = [(seconds(work), seconds(yardstick)) for _ in range(rounds)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{name:<52} {ours:8.3f} s {theirs:8.3f} s {ratio:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--verified", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    network, data = load_network("noise-aware"), load_test_images().images
    some, few = data[: chosen.images], data[: chosen.verified]
    print(f"{'':<52} {'run':>10} {'yardstick':>10} {'ratio':>7}")
    compare(
        f"measured values, {len(some)} images / products + normals",
        lambda: protocol(network, some, Sampling.MEASURED),
        lambda: products_and_numbers(network, some),
        chosen.rounds,
    )
    compare(
        f"all returned modes, {len(few)} images / as many normals",
        lambda: protocol(network, few, Sampling.ALL),
        lambda: normals(network, few),
        chosen.rounds,
    )
    for order, disguise in (("one order", PLAIN), ("fresh orders", FRESH_ORDER)):
        compare(
            f"with sums by weight, {order}, {len(few)} images / without",
            partial(summed, network, few, disguise),
            partial(unsummed, network, few, disguise),
            chosen.rounds,
        )
        show_share(
            f"sums by weight, {order}, within the run / all else",
            partial(summed, network, few, disguise),
            chosen.rounds,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
