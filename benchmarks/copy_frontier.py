"""Service against secrecy: accuracy served, and the best copy that an accepted client makes.

    python benchmarks/copy_frontier.py measure benchmarks/copy_frontier.csv --data FOLDER
    python benchmarks/copy_frontier.py draw benchmarks/copy_frontier.csv docs/copy-frontier.png
    python benchmarks/copy_frontier.py least

`measure` runs what the file does not hold yet, each row in its own session, and adds it: ten
minutes in all on one core. FOLDER holds the MNIST training images (idx files): 5,000 of them are
public, the first 2,000 test images judge copies and service, decoys are among the others. Hidden
neurons come in a fresh order, no loss, no technical noise, calibration of 1e8 samples, seed 0.
`draw` prints a table too; classes alone are those of the shipped table. `least` prints, for each F,
the gain at which a thief of one query has least to spend, and the copy that the table knows for it.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network, load_network
from labctl.data.tasks import part_to_classify, part_to_learn_from
from labctl.drawing import new_figure
from labctl.protocols.copies.figure import query_spend
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
from labctl.protocols.settings import Sampling, SessionSettings, VerificationSettings
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
QUERIES = (1, 30, 100)
GAINS = np.concatenate([1.0 + np.geomspace(1e-3, 1.0, 40), np.geomspace(2.1, 100.0, 30)])


@dataclass(frozen=True)
class Setting:
    """What is served: with J decoys, or a public subspace of this number of modes in layer 1."""

    model: str
    mu: float
    gain: float
    decoys: int = 0
    return_modes: int = 0

    def session(self, sampling: Sampling = Sampling.ALL) -> SessionSettings:
        """Return the settings of its sessions."""
        hiding = Hiding(self.decoys, self.return_modes or None)
        return SessionSettings(
            mean_photons=self.mu,
            receiver=CloneReceiver(self.gain, 1.0, IDEAL_HOMODYNE),
            verifier=IDEAL_HOMODYNE,
            loss_db=0.0,
            technical_noise=0.0,
            assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
            sampling=sampling,
            seed=0,
            verification=VerificationSettings(),
            disguise=FRESH_ORDER,
            hiding=hiding,
        )


HONEST, HIDDEN, AT_ONCE = QND
_DEEP, _DEEP_DECOYS = Setting("deep", 0.15, 2.0), Setting("deep", 0.15, 2.0, 3)
# Noise in equal parts over many queries takes minutes a session: of the deep network at its own
# light alone. Of one query what hides is all in the first anyway.
PLANS: tuple[tuple[Setting, tuple[str, ...], tuple[int, ...]], ...] = (
    *((one, (HONEST, HIDDEN), (1,)) for one in (_DEEP, _DEEP_DECOYS)),
    *((one, (AT_ONCE,), (30, 100)) for one in (_DEEP, _DEEP_DECOYS)),
    *(
        (Setting(model, mu, gain, decoys), (thief,), queries)
        for model, mu, gain in (
            ("deep", 0.1, 2.0),
            ("deep", 0.3, 2.0),
            ("noise-aware", 0.57, 1.3),
            ("noise-aware", 8.91, 1.0128),
        )
        for decoys in (0, 3)
        for thief, queries in ((HIDDEN, (1,)), (AT_ONCE, (30, 100)))
    ),
    *(
        (Setting("noise-aware", 8.91, 1.0128, 0, modes), (HONEST, HIDDEN), (1,))
        for modes in (5, 30, 100, 392)
    ),
    (_DEEP, (HIDDEN,), (30, 100)),
    (_DEEP_DECOYS, (HIDDEN,), (100,)),
    (_DEEP, (HONEST,), (100,)),
    (_DEEP, HONEST_OPTICS, (100,)),
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
    as_stolen: float
    finished: float
    accepted: bool

    @property
    def setting(self) -> Setting:
        """What was served."""
        return Setting(self.model, self.mu, self.gain, self.decoys, self.return_modes)

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
                float(one["as_stolen"]), float(one["finished"]), one["accepted"] == "True",
            )
            for one in csv.DictReader(file)
        ]  # fmt: skip


def wanted() -> Iterator[tuple[Setting, str, int]]:
    """Yield all sessions: setting, thief (or the service), queries."""
    for setting, thieves, queries in PLANS:
        yield setting, SERVICE, JUDGED
        for count in queries:
            for thief in thieves:
                yield setting, thief, count


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

    def collection(self, setting: Setting, network: Network) -> Collection | None:
        """Return what an honest client collects in addition to its input."""
        if setting.return_modes:
            hiding = setting.session().hiding
            return PublicReturn(self.public.images, network.sizes, None, hiding)
        if setting.decoys:
            return Decoys(self.others, setting.decoys, decoy_key_of_seed(0))
        return None


def run(images: Images, setting: Setting, thief: str, queries: int) -> Row:
    """Run one session."""
    network = load_network(setting.model)
    collection = images.collection(setting, network)
    key = (setting.model, setting.mu, setting.gain, setting.decoys, setting.return_modes)
    if thief == SERVICE:
        settings = setting.session(Sampling.MEASURED)
        session = Session(network, settings, ModeLink(settings), collection=collection)
        shown = session.run(images.judged.images)
        classes = np.concatenate([batch.classes for batch in shown])
        served = float(np.mean(classes == images.judged.labels))
        return Row(*key, thief, queries, served, served, accepted=True)
    settings = setting.session()
    attack = THIEVES[thief].attack(images.public, queries, sent_sizes(network), settings)
    own = images.public.images[:queries]
    found = steal(attack, network, settings, own, images.public, images.judged, collection)
    return Row(*key, thief, queries, found.worth.raw, found.worth.smoothed, found.accepted)


def measure(path: Path, data: str) -> None:
    """Run what the file does not hold, and add it row by row."""
    done = {(one.setting, one.thief, one.queries) for one in read(path)}
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


def best_accepted(rows: list[Row], queries: int) -> dict[Setting, Row]:
    """Return the best copy of an accepted session of this number of queries at each setting."""
    best: dict[Setting, Row] = {}
    for one in rows:
        if one.queries == queries and one.accepted and one.thief != SERVICE:
            best[one.setting] = max(best.get(one.setting, one), one, key=lambda row: row.best)
    return best


def tell(rows: list[Row], served: dict[Setting, float]) -> None:
    """Print what is served, the best accepted copies, and how far beyond classes alone they are."""
    print("setting | served | best accepted copy (points beyond classes alone) after", *QUERIES)
    best = {queries: best_accepted(rows, queries) for queries in QUERIES}
    for setting, right in served.items():
        found = []
        for queries in QUERIES:
            one = best[queries].get(setting)
            beyond = 0.0 if one is None else one.best - classes_alone(setting.model, queries)
            found.append("none" if one is None else f"{one.best:.1%} ({100.0 * beyond:+.0f})")
        name = f"{setting.model} {setting.mu:g}, {setting.gain:g}, J = {setting.decoys}"
        print(f"| {name} | {right:.1%} |", " | ".join(found), "|")


def _legend(axes: Axes, colours: Mapping[int, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    axes.legend(
        handles=[
            Line2D([], [], marker="o", linestyle="none", color="gray", label="deep, G = 2"),
            Line2D([], [], marker="s", linestyle="none", color="gray", markerfacecolor="white",
                   label="noise-aware, G = 1.3 (0.57), 1.0128 (8.91)"),
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

    rows = [one for one in read(path) if not one.return_modes]
    served = {one.setting: one.best for one in rows if one.thief == SERVICE}
    tell(rows, served)
    panels = figure.subplots(1, len(QUERIES), sharey=True, width_ratios=(2.0, 1.0, 1.0))
    colours = {0: "tab:blue", 3: "tab:red"}
    for axes, queries in zip(panels, QUERIES, strict=True):
        alone = classes_alone("deep", queries)
        axes.fill_between([0.0, alone + AIM_BEYOND], AIM_SERVED, 1.0, color="tab:green",
                          alpha=0.13, linewidth=0)  # fmt: skip
        axes.axvline(alone, color="black", linestyle="--", linewidth=1.2)
        for setting, one in best_accepted(rows, queries).items():
            deep = setting.model == "deep"
            left = deep and not setting.decoys
            axes.plot(
                one.best, served[setting], "o" if deep else "s", markersize=7,
                color=colours[setting.decoys], markerfacecolor=None if deep else "white",
            )  # fmt: skip
            axes.annotate(
                f"{setting.mu:g}", (one.best, served[setting]), xytext=(-6 if left else 6, 0),
                textcoords="offset points", fontsize=8, va="center",
                ha="right" if left else "left", color=colours[setting.decoys],
            )  # fmt: skip
        axes.set_title(f"after {queries} quer{'y' if queries == 1 else 'ies'}: classes alone "
                       f"{alone:.0%}", fontsize=10)  # fmt: skip
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("best accepted copy")
        axes.grid(visible=True, alpha=0.25)
        axes.set_xlim(0.2 if queries == 1 else 0.9, 1.03 if queries == 1 else 1.0)
    panels[0].set_ylim(0.935, 1.0)
    panels[0].set_ylabel("accuracy served")
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _legend(panels[0], colours)
    figure.supxlabel(
        "Share of unseen images that the copy, or the service, names rightly; numbers: μ; fresh "
        "order of hidden neurons. Thieves: QND with the noise that hides in these queries, "
        "spread or in the first alone. Standard error 0.4 to 1.1 %",
        fontsize=7, color="dimgray",
    )  # fmt: skip
    figure.savefig(figure_path, dpi=150)


def least() -> None:
    """Print the least spend of one query at each F, over all gains, and what it buys."""
    network, table = load_network("deep"), load_copies()
    print("F  J  G of least spend  mu  spend, honest  with what hides  best copy at most")
    for snr in (0.05, 0.1, 0.15, 0.3):
        for decoys in (0, 3):
            found = []
            for gain in GAINS:
                unit = Setting("deep", 1.0, float(gain), decoys).session()
                settings = replace(unit, mean_photons=snr / unit.signal_to_noise)
                spend = query_spend(network.sizes, settings)
                found.append((spend.most, spend.steady, float(gain), settings.mean_photons))
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
