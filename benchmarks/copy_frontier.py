"""Service against secrecy: accuracy served, and the best copy that an accepted client makes.

    python benchmarks/copy_frontier.py measure benchmarks/copy_frontier.csv --data FOLDER
    python benchmarks/copy_frontier.py draw benchmarks/copy_frontier.csv docs/copy-frontier.png
    python benchmarks/copy_frontier.py least

`measure` runs what the file does not hold yet, each row in its own session, and adds it: half an
hour in all on one core. FOLDER holds the MNIST training images (idx files): 5,000 of them are
public, the first 2,000 test images judge copies and service, decoys are among the others. Hidden
neurons come in a fresh order, no loss, no technical noise, calibration of 1e8 samples. A seed draws
light, order and decoys; public and judged images are the same for all. `draw` prints a table too;
classes alone are those of the shipped table. `least` prints, for each F, the gain at which a thief
of one query has least to spend, and the copy that the table knows for it. `copies_seen.py` enters
the best copies in a table.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network, load_network
from labctl.data.tasks import part_to_classify, part_to_learn_from
from labctl.drawing import new_figure, write_png
from labctl.protocols.copies.figure import copy_figure, query_spend
from labctl.protocols.copies.spend import sent_sizes
from labctl.protocols.copies.table import Order, load_copies
from labctl.protocols.disguise import FRESH_ORDER
from labctl.protocols.hiding.collection import Collection
from labctl.protocols.hiding.decoys import Decoys, decoy_key_of_seed
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.hiding.public_return import PublicReturn
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.studies.attacks.copies.copy_curve import steal
from labctl.studies.attacks.copies.stolen import PublicImages
from labctl.studies.attacks.copies.thieves import THIEVES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PUBLIC, JUDGED = 5000, 2000
SERVICE = "service"
QND = ("principal-modes", "principal-modes-hidden", "principal-modes-at-once")
HONEST_OPTICS = ("model-copy", "chosen-principal-inputs")
AIM_BEYOND, AIM_SERVED = 0.05, 0.96
# A spread of more than a point leaves no meaning to a decimal of the mean.
SHOWN_DECIMAL = 0.01
# Labels of points that differ by less in accuracy served would cover each other.
CLOSE = 0.0015
QUERIES = (1, 30, 100)
GAINS = np.concatenate([1.0 + np.geomspace(1e-3, 1.0, 40), np.geomspace(2.1, 100.0, 30)])


@dataclass(frozen=True)
class Service:
    """What is served: with J decoys, or a public subspace of this number of modes in layer 1."""

    model: str
    mu: float
    gain: float
    decoys: int = 0
    return_modes: int = 0

    def session(self, sampling: Sampling = Sampling.ALL, seed: int = 0) -> SessionSettings:
        """Return the settings of its sessions."""
        hiding = Hiding(self.decoys, self.return_modes or None)
        return SessionSettings(
            light=Light(self.mu, FRESH_ORDER),
            channel=Channel(),
            receiver=CloneReceiver(self.gain, 1.0, IDEAL_HOMODYNE),
            verifier=IDEAL_HOMODYNE,
            assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
            sampling=sampling,
            seed=seed,
            hiding=hiding,
        )


HONEST, HIDDEN, AT_ONCE = QND
_DEEP, _DEEP_DECOYS = Service("deep", 0.15, 2.0), Service("deep", 0.15, 2.0, 3)
FRONTIER = tuple(
    Service(model, mu, gain, decoys)
    for model, mu, gain in (
        ("deep", 0.15, 2.0),
        ("deep", 0.1, 2.0),
        ("deep", 0.3, 2.0),
        ("noise-aware", 0.57, 1.3),
        ("noise-aware", 8.91, 1.0128),
        ("noise-aware", 21.0, 1.0048),
    )
    for decoys in (0, 3)
)
# Rows of other tables: measured, and not drawn. No link here has technical noise.
OTHERS = (
    Service("noise-aware", 7.9, 1.0128),
    Service("many-rows", 2.35, 1.024),
    Service("pruned", 2.28, 1.3),
    Service("reference", 4.0, 2.0),
)
SUBSPACES = tuple(Service("noise-aware", 8.91, 1.0128, 0, modes) for modes in (5, 30, 100, 392))
# One query's copy scatters by up to ten points from session to session, that of many by less than
# half a point, as the spread in the file shows.
MANY_SEEDS, FEW_SEEDS = 8, 2


@dataclass(frozen=True)
class Plan:
    """Sessions of these thieves, after each of these numbers of queries, of this many seeds."""

    service: Service
    thieves: tuple[str, ...]
    queries: tuple[int, ...]
    seeds: int


# Noise in equal parts over many queries takes minutes a session: of the deep network at its own
# light alone, one seed. Of one query what hides is all in the first anyway.
PLANS = (
    *(Plan(one, QND, (1,), MANY_SEEDS) for one in (*FRONTIER, *OTHERS)),
    *(Plan(one, (AT_ONCE,), (30, 100), FEW_SEEDS) for one in (*FRONTIER, *OTHERS)),
    *(Plan(one, (HONEST, HIDDEN), (1,), FEW_SEEDS) for one in SUBSPACES),
    Plan(_DEEP, (HIDDEN,), (30, 100), 1),
    Plan(_DEEP_DECOYS, (HIDDEN,), (100,), 1),
    Plan(_DEEP, (HONEST,), (100,), 1),
    Plan(_DEEP, HONEST_OPTICS, (100,), 1),
)


@dataclass(frozen=True)
class Row:
    """One session: accuracy as stolen and finished, or as served (both the same)."""

    model: str
    mu: float
    gain: float
    decoys: int
    return_modes: int
    thief: str
    queries: int
    seed: int
    as_stolen: float
    finished: float
    accepted: bool

    @property
    def service(self) -> Service:
        """What was served."""
        return Service(self.model, self.mu, self.gain, self.decoys, self.return_modes)

    @property
    def best(self) -> float:
        """The better of both."""
        return max(self.as_stolen, self.finished)


def read(path: Path) -> list[Row]:
    """Return the rows of a file, none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Row(
                one["model"], float(one["mu"]), float(one["gain"]), int(one["decoys"]),
                int(one["return_modes"]), one["thief"], int(one["queries"]),
                int(one["seed"]), float(one["as_stolen"]), float(one["finished"]),
                one["accepted"] == "True",
            )
            for one in csv.DictReader(file)
        ]  # fmt: skip


def wanted() -> Iterator[tuple[Service, str, int, int]]:
    """Yield all sessions: service, thief (or the honest client), queries, seed."""
    for plan in PLANS:
        yield plan.service, SERVICE, JUDGED, 0
        for count in plan.queries:
            for thief in plan.thieves:
                for seed in range(plan.seeds):
                    yield plan.service, thief, count, seed


@dataclass(frozen=True)
class Images:
    """Public, judged, and others that decoys are taken from."""

    public: PublicImages
    judged: LabelledImages
    others: LabelledImages

    @classmethod
    def of(cls, data: str) -> Images:
        """Draw the public ones as `labctl copies` does."""
        pool, test = part_to_learn_from(data).images, part_to_classify(data)
        drawn = np.random.default_rng(0).permutation(len(pool))[:PUBLIC]
        return cls(
            PublicImages(pool[drawn]),
            LabelledImages(test.images[:JUDGED], test.labels[:JUDGED]),
            LabelledImages(test.images[JUDGED:], test.labels[JUDGED:]),
        )

    def collection(self, service: Service, network: Network, seed: int) -> Collection | None:
        """Return what an honest client collects in addition to its input."""
        if service.return_modes:
            hiding = service.session().hiding
            return PublicReturn(self.public.images, network.sizes, None, hiding)
        if service.decoys:
            return Decoys(self.others, service.decoys, decoy_key_of_seed(seed))
        return None


def run(images: Images, service: Service, thief: str, queries: int, seed: int) -> Row:
    """Run one session."""
    network = load_network(service.model)
    collection = images.collection(service, network, seed)
    key = (service.model, service.mu, service.gain, service.decoys, service.return_modes)
    if thief == SERVICE:
        settings = service.session(Sampling.MEASURED, seed)
        session = Session(network, settings, ModeLink(settings), collection=collection)
        shown = session.run(images.judged.images)
        classes = np.concatenate([batch.classes for batch in shown])
        served = float(np.mean(classes == images.judged.labels))
        return Row(*key, thief, queries, seed, served, served, accepted=True)
    settings = service.session(seed=seed)
    attack = THIEVES[thief].attack(images.public, queries, sent_sizes(network), settings)
    own = images.public.images[:queries]
    found = steal(attack, network, settings, own, images.public, images.judged, collection)
    return Row(*key, thief, queries, seed, found.worth.raw, found.worth.smoothed, found.accepted)


def measure(path: Path, data: str) -> None:
    """Run what the file does not hold, and add it row by row."""
    done = {(one.service, one.thief, one.queries, one.seed) for one in read(path)}
    images = Images.of(data)
    names = [one.name for one in fields(Row)]
    if not done:
        path.write_text(",".join(names) + "\n", encoding="utf-8")
    for one in wanted():
        if one in done:
            continue
        done.add(one)
        row = run(images, *one)
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, names, lineterminator="\n").writerow(asdict(row))
        print(row, flush=True)


def classes_alone(model: str, queries: int) -> float:
    """Return what any service of the network gives away, by the shipped table."""
    found = load_copies().best(load_network(model), queries, 0.0)
    assert found is not None
    return found.classes_alone.accuracy


@dataclass(frozen=True)
class Copies:
    """Accepted copies of one thief: mean and spread of single ones, the best seen, how many ran.

    `spread`: standard deviation of a single copy; nan of one alone.
    """

    thief: str
    mean: float
    spread: float
    highest: float
    accepted: int
    sessions: int

    def in_words(self) -> str:
        """Return percent: `81 ± 9 (91)`, a decimal where the spread is below a point."""
        if self.spread != self.spread:
            return f"{100.0 * self.mean:.1f}"
        digits = 0 if self.spread > SHOWN_DECIMAL else 1
        mean, spread, highest = (
            f"{100.0 * one:.{digits}f}" for one in (self.mean, self.spread, self.highest)
        )
        return f"{mean} ± {spread} ({highest})"


def copies_of(rows: Sequence[Row], service: Service, thief: str, queries: int) -> Copies | None:
    """Return a thief's accepted copies of a service, None where none was."""
    mine = [
        one for one in rows if (one.service, one.thief, one.queries) == (service, thief, queries)
    ]
    worth = [one.best for one in mine if one.accepted]
    if not worth:
        return None
    spread = float(np.std(worth, ddof=1)) if len(worth) > 1 else math.nan
    return Copies(thief, float(np.mean(worth)), spread, max(worth), len(worth), len(mine))


def best_accepted(rows: Sequence[Row], service: Service, queries: int) -> Copies | None:
    """Return the copies of the thief that is best on average, with the best copy of any thief."""
    found = [one for thief in QND if (one := copies_of(rows, service, thief, queries))]
    if not found:
        return None
    best = max(found, key=lambda one: one.mean)
    return replace(best, highest=max(one.highest for one in found))


def at_most(service: Service, queries: int) -> float:
    """Return what `infer` and `plan` print as the best copy after this number of queries."""
    network = load_network(service.model)
    figure = copy_figure(network.sha256, sent_sizes(network), service.session(), queries)
    assert figure.accuracy is not None, figure.reason
    return figure.accuracy


def served_by(rows: Sequence[Row]) -> dict[Service, float]:
    """Return the accuracy of each service."""
    return {one.service: one.best for one in rows if one.thief == SERVICE}


def cells(rows: Sequence[Row], service: Service) -> list[str]:
    """Return a service's copies: one query at honest noise, the best after 1, 30 and 100, at most.

    In brackets the best of all accepted copies; points beyond classes alone after the mean.
    """
    honest = copies_of(rows, service, HONEST, 1)
    found = ["none" if honest is None else honest.in_words()]
    for queries in QUERIES:
        one = best_accepted(rows, service, queries)
        if one is None:
            found.append("none")
            continue
        beyond = 100.0 * (one.mean - classes_alone(service.model, queries))
        found.append(f"{one.in_words()}, {beyond:+.0f}")
    most = (f"{100.0 * at_most(service, queries):.1f}" for queries in QUERIES)
    return [*found, " / ".join(most)]


def tell(rows: Sequence[Row]) -> None:
    """Print what is served, the accepted copies, and how far beyond classes alone they are."""
    print("setting | served | 1 query, honest noise | best after", *QUERIES, "| at most")
    for service, right in served_by(rows).items():
        name = f"{service.model} {service.mu:g}, {service.gain:g}, J = {service.decoys}"
        if service.return_modes:
            name += f", d = {service.return_modes}"
        print(f"| {name} | {right:.1%} |", " | ".join(cells(rows, service)), "|")


def _legend(axes: Axes, colours: Mapping[int, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    axes.legend(
        handles=[
            Line2D([], [], marker="o", linestyle="none", color="gray", label="deep, G = 2"),
            Line2D([], [], marker="s", linestyle="none", color="gray", markerfacecolor="white",
                   label="noise-aware, G = 1.3 (0.57), 1.0128 (8.91), 1.0048 (21)"),
            Line2D([], [], marker="x", linestyle="none", color="gray", label="best copy seen"),
            Patch(color=colours[0], label="no decoys"),
            Patch(color=colours[3], label="three decoys"),
            Line2D([], [], color="black", linestyle="--", label="classes alone"),
            Patch(color="tab:green", alpha=0.2, label="aim"),
        ],
        fontsize=8, loc="upper right",
    )  # fmt: skip


def draw(path: Path, figure_path: Path) -> None:
    """Draw what is served against the best accepted copy, a panel for each number of queries."""
    figure = new_figure(12.5, 5.2)
    from matplotlib.ticker import PercentFormatter

    rows = read(path)
    tell(rows)
    served = {one: right for one, right in served_by(rows).items() if one in FRONTIER}
    panels = figure.subplots(1, len(QUERIES), sharey=True, width_ratios=(2.0, 1.0, 1.0))
    colours = {0: "tab:blue", 3: "tab:red"}
    for axes, queries in zip(panels, QUERIES, strict=True):
        alone = classes_alone("deep", queries)
        axes.fill_between([0.0, alone + AIM_BEYOND], AIM_SERVED, 1.0, color="tab:green",
                          alpha=0.13, linewidth=0)  # fmt: skip
        axes.axvline(alone, color="black", linestyle="--", linewidth=1.2)
        for service, right in served.items():
            one = best_accepted(rows, service, queries)
            if one is None:
                continue
            deep = service.model == "deep"
            left = deep and not service.decoys
            # Under the point where another one stands just above it.
            beneath = any(0.0 < other - right < CLOSE for other in served.values())
            colour = colours[service.decoys]
            axes.errorbar(
                one.mean, right, xerr=one.spread, fmt="o" if deep else "s", markersize=7,
                color=colour, markerfacecolor=None if deep else "white", capsize=2.5,
                elinewidth=1.0,
            )  # fmt: skip
            axes.plot(one.highest, right, "x", markersize=5, color=colour)
            axes.annotate(
                f"{service.mu:g}", (one.mean, right),
                xytext=(-6 if left else 6, -6 if beneath else 5),
                textcoords="offset points", fontsize=8, va="center",
                ha="right" if left else "left", color=colour,
            )  # fmt: skip
        axes.set_title(f"after {queries} quer{'y' if queries == 1 else 'ies'}: classes alone "
                       f"{alone:.0%}", fontsize=10)  # fmt: skip
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("accepted copy of the best thief")
        axes.grid(visible=True, alpha=0.25)
        axes.set_xlim(0.1 if queries == 1 else 0.9, 1.03 if queries == 1 else 1.0)
    panels[0].set_ylim(0.935, 1.0)
    panels[0].set_ylabel("accuracy served")
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _legend(panels[0], colours)
    figure.supxlabel(
        "Share of unseen images that the copy, or the service, names rightly; numbers: μ; fresh "
        "order of hidden neurons. Thieves: QND with the noise that hides in these queries, "
        "all in the first.\nMean and standard deviation of single accepted copies "
        f"({MANY_SEEDS} or more sessions after one query, {FEW_SEEDS} after more), cross: the best",
        fontsize=7, color="dimgray",
    )  # fmt: skip
    write_png(figure_path, figure)


def least() -> None:
    """Print the least spend of one query at each F, over all gains, and what it buys."""
    network, table = load_network("deep"), load_copies()
    print("F  J  G of least spend  mu  spend, honest  with what hides  best copy at most")
    for snr in (0.05, 0.1, 0.15, 0.3):
        for decoys in (0, 3):
            found = []
            for gain in GAINS:
                unit = Service("deep", 1.0, float(gain), decoys).session()
                settings = replace(
                    unit, light=replace(unit.light, mean_photons=snr / unit.signal_to_noise)
                )
                spend = query_spend(network.sizes, settings)
                found.append((spend.most, spend.steady, float(gain), settings.light.mean_photons))
            most, steady, gain, mu = min(found)
            copy = table.best(network, 1, most, Order.FRESH)
            bought = math.nan if copy is None else copy.figure.upper
            print(f"{snr}  {decoys}  {gain:.4g}  {mu:.4g}  {steady:.3f}  {most:.3f}  {bought:.1%}")


def main() -> None:
    """Measure, draw, or print the least spends."""
    parser = argparse.ArgumentParser(description="Service against secrecy.")
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("file", type=Path)
    measuring.add_argument("--data", required=True)
    drawing = commands.add_parser("draw")
    drawing.add_argument("file", type=Path)
    drawing.add_argument("figure", type=Path)
    commands.add_parser("least")
    chosen = parser.parse_args()
    if chosen.command == "measure":
        measure(chosen.file, chosen.data)
    elif chosen.command == "draw":
        draw(chosen.file, chosen.figure)
    else:
        least()


if __name__ == "__main__":
    main()
