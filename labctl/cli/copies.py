"""`labctl copies`: what a stolen copy of the network is worth, measured or looked up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from labctl import checks
from labctl.cli import attack_options as ask
from labctl.cli import options, output
from labctl.cli.choices import names_of
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network, load_network
from labctl.data.tasks import part_to_classify, part_to_learn_from
from labctl.errors import SettingError
from labctl.protocols.copies.spend import sent_sizes
from labctl.protocols.copies.table import (
    CopyTable,
    Order,
    best_copy,
    honest_spend,
    load_copies,
)
from labctl.protocols.disguise import Disguise
from labctl.protocols.hiding.decoys import Decoys, decoy_key_of_seed
from labctl.protocols.hiding.hiding import Hiding, require_decoys
from labctl.protocols.leakage import Trust
from labctl.protocols.receiver import ReceiverKind
from labctl.protocols.settings import SessionSettings
from labctl.safety import interruptible
from labctl.studies.attacks.attack import Attack
from labctl.studies.attacks.copies.copy_curve import CopyCurvePoint, copy_curve
from labctl.studies.attacks.copies.copy_measure import Plan, measure_table
from labctl.studies.attacks.copies.features import Features
from labctl.studies.attacks.copies.stolen import PublicImages
from labctl.studies.attacks.copies.thieves import THIEVES, Thief
from labctl.wording import at_most_percent, counted

app = typer.Typer(help="What a stolen copy of the network is worth.", no_args_is_help=True)

_ASSUMES = (
    "public images without labels, as many as stated, like those that the client classifies",
    "the thief's features are local histograms of gradients; another thief may know better ones",
    "QND couplings and homodyne; noise independent between queries, no quantum memory",
)
_LOOKED_UP = (
    "a spend between two that were measured counts as the higher one: weak light is read with "
    "more vacuum and gives less; no copy seen in a session lies above 'at most'",
)

Public = Annotated[int, typer.Option(help="Number of public images, without labels.")]
Judged = Annotated[int, typer.Option(help="Number of test images, with labels, that judge a copy.")]
Seeds = Annotated[
    int, typer.Option(help="Number of sessions per point, with seeds from --seed on.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh-order", help="Send hidden neurons in a fresh order for each query.")
]


def _settings(mu: float, gain: float, seed: int, fresh: bool, decoys: int = 0) -> SessionSettings:
    """Return the settings of lossless sessions between ideal receivers."""
    settings = ask.settings_of(
        mu=mu,
        gain=gain,
        loss_db=0.0,
        technical_noise=0.0,
        loss=Trust.UNTRUSTED,
        noise=Trust.UNTRUSTED,
        efficiency=1.0,
        electronic_noise=0.0,
        noise_figure_db=None,
        receiver=ReceiverKind.AMPLIFIER,
        block_modes=None,
        rotation_loss_db_per_mode=0.0,
        calibration_samples=ask.VERIFICATION.calibration_samples,
        monitor_samples=ask.VERIFICATION.monitor_samples,
        seed=seed,
    )
    return replace(
        settings,
        light=replace(settings.light, disguise=Disguise(permute=fresh)),
        hiding=Hiding(decoys),
    )


@dataclass(frozen=True)
class _Images:
    public: PublicImages
    judged: LabelledImages
    words: tuple[str, str]
    others: LabelledImages

    def decoys(self, count: int, seed: int) -> Decoys | None:
        """Return what an honest client would clone besides its input, taken from other images."""
        return Decoys(self.others, count, decoy_key_of_seed(seed)) if count else None


def _images(data: Path | None, public: int, judged: int, features: Features) -> _Images:
    """Return public and judged images; without `data`, both halves of the shipped test set."""
    test = part_to_classify(data)
    if data is None:
        half = len(test.labels) // 2
        pool, test = test.images[half:], LabelledImages(test.images[:half], test.labels[:half])
        where = "second half of the shipped MNIST test images"
    else:
        pool, where = part_to_learn_from(data).images, "training images"
    for name, asked, most in (
        ("--public", public, len(pool)),
        ("--judged", judged, len(test.labels)),
    ):
        checks.within(name, asked, 1, most)
    # Files may be sorted by class: any part of them must show all.
    drawn = np.random.default_rng(0).permutation(len(pool))[:public]
    words = f"{public} of the {where}, drawn with seed 0", f"first {judged} test images"
    return _Images(
        PublicImages(pool[drawn], features),
        LabelledImages(test.images[:judged], test.labels[:judged]),
        words,
        LabelledImages(test.images[judged:], test.labels[judged:]),
    )


@app.command("measure")
def measure(
    attack: Annotated[
        list[str] | None, typer.Option(help="Only this attack; may be repeated (default: all).")
    ] = None,
    queries: options.QueryCounts = "1,3,10,30,100",
    model: options.Model = "noise-aware",
    mu: options.Mu = 0.57,
    gain: options.Gain = 1.3,
    fresh_order: Fresh = False,
    decoys: options.Decoys = 0,
    data: options.OptionalData = None,
    public: Public = 5000,
    judged: Judged = 2000,
    features: Annotated[
        Features, typer.Option(help="Features by which the thief compares images.")
    ] = Features.GRADIENTS,
    seeds: Seeds = 1,
    seed: options.Seed = 0,
    figure: options.OptionalFigure = None,
    json: options.Json = False,
) -> None:
    """Run thieves through sessions and verdicts: the worth of each copy against queries.

    Training images of --data are public; without it, the second half of the shipped test images.
    The noise of decoys is accepted.
    """
    output.require_png(figure)
    checks.at_least("--seeds", seeds, 1)
    counts = ask.whole_numbers("--query-counts", queries)
    network = load_network(model)
    require_decoys(decoys, network.sizes[-1])
    settings = _settings(mu, gain, seed, fresh_order, decoys)
    thieves = [_thief(name) for name in dict.fromkeys(attack or THIEVES)]
    images = _images(data, public, judged, features)
    hidden_among = images.decoys(decoys, seed)
    total = len(thieves) * len(counts) * seeds
    with interruptible() as check, output.progress("copies", total, "sessions") as advance:

        def step() -> None:
            advance(1)
            check()

        found = {
            thief.name: copy_curve(
                partial(_attack_by, thief, images.public, network, settings),
                network,
                settings,
                counts,
                images.public,
                images.judged,
                seeds=seeds,
                collection=hidden_among,
                on_session=step,
            )
            for thief in thieves
        }
    if figure is not None:
        from labctl.cli.copies_figure import draw_copies

        draw_copies(figure, found, f"{network.name}, {ask.setting_words(settings)}")
    if json:
        output.print_json(
            {
                "model": network.name,
                **ask.settings_json(settings),
                "fresh_order": fresh_order,
                "decoys": decoys,
                "public": images.words[0],
                "judged": images.words[1],
                "features": str(features),
                "attacks": {name: _points_json(points) for name, points in found.items()},
                "assumptions": list(_ASSUMES),
            }
        )
        return
    output.table(
        f"Accuracy of copies of {network.name}, {ask.setting_words(settings)}: as stolen / "
        f"finished on the graph of public images (sessions accepted of {seeds})",
        ["thief", *(str(count) for count in counts)],
        [[name, *map(_cell, points)] for name, points in found.items()],
    )
    output.people.print(f"public: {images.words[0]}; judged: {images.words[1]}", style="dim")
    output.people.print("assumes: " + "; ".join(_ASSUMES), style="dim")


def _attack_by(
    thief: Thief, public: PublicImages, network: Network, settings: SessionSettings, queries: int
) -> Attack:
    """Return the attack of a thief who has that number of queries."""
    return thief.attack(public, queries, sent_sizes(network), settings)


def _points_json(points: tuple[CopyCurvePoint, ...]) -> list[dict[str, Any]]:
    return [
        {
            "queries": point.queries,
            "raw": point.raw,
            "smoothed": point.smoothed,
            "best": point.best,
            "standard_error": point.standard_error,
            "highest": point.highest,
            "each": [max(one.worth.raw, one.worth.smoothed) for one in point.copies],
            "accepted": point.accepted,
            "sessions": len(point.copies),
        }
        for point in points
    ]


def _cell(point: CopyCurvePoint) -> str:
    return f"{point.raw:.1%} / {point.smoothed:.1%} ({point.accepted})"


def _thief(name: str) -> Thief:
    checks.one_of("--attack", name, THIEVES)
    return THIEVES[name]


@app.command("table")
def table(
    file: Annotated[Path, typer.Argument(help="TOML file to write.")],
    models: options.Models = "noise-aware,reference,many-rows,deep,pruned",
    mu: options.Mu = 0.57,
    gain: options.Gain = 1.3,
    data: options.OptionalData = None,
    public: Public = 5000,
    judged: Judged = 2000,
    join: Annotated[
        Path | None, typer.Option(help="Earlier table; what is not measured again is kept.")
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(help="Also measure fresh orders of hidden neurons; takes most of the time."),
    ] = True,
    class_queries: Annotated[
        str | None,
        typer.Option(
            help="Numbers of queries of classes alone, with commas between (default: to 1000)."
        ),
    ] = None,
    spends: Annotated[
        str | None,
        typer.Option(
            help="Spends of one query, with commas between (default: 0.05 to 102.4, doubled)."
        ),
    ] = None,
    fresh_queries: Annotated[
        str | None,
        typer.Option(
            help="Numbers of queries in fresh orders, with commas between (default: 1,3,10)."
        ),
    ] = None,
    fresh_spends: Annotated[
        str | None,
        typer.Option(
            help="Spends per query in fresh orders, with commas between (default: 0.3,1,4,25)."
        ),
    ] = None,
    seeds: Seeds = 2,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Measure the table that `labctl copies show` looks things up in; minutes a network.

    Thieves that ask for classes alone get them from the service at --mu and --gain.
    """
    output.require_folder(file)
    before = None if join is None else load_copies(join)
    checks.at_least("--seeds", seeds, 1)
    names = names_of("--models", models)
    networks = [load_network(name) for name in names]
    images = _images(data, public, judged, Features.GRADIENTS)
    command = f"labctl copies table {file.name}"
    command += f" --models {models}"
    command += f" --mu {mu:g} --gain {gain:g}"
    command += " --data FOLDER" if data is not None else ""
    command += "" if fresh else " --no-fresh"
    command += "" if class_queries is None else f" --class-queries {class_queries}"
    command += "" if spends is None else f" --spends {spends}"
    command += "" if fresh_queries is None else f" --fresh-queries {fresh_queries}"
    command += "" if fresh_spends is None else f" --fresh-spends {fresh_spends}"
    command += "" if join is None else f" --join {join.name}"
    command += f" --public {public} --judged {judged} --seeds {seeds} --seed {seed}"
    plan = _plan(fresh, fresh_queries, fresh_spends)
    if class_queries is not None:
        plan = replace(plan, class_queries=ask.whole_numbers("--class-queries", class_queries))
    if spends is not None:
        plan = replace(plan, spends=ask.numbers("--spends", spends))
    total = plan.points * len(networks)
    with interruptible() as check, output.progress("table", total, "points") as advance:

        def step(_: object) -> None:
            advance(1)
            check()

        found = measure_table(
            networks,
            _settings(mu, gain, seed, fresh=False),
            images.public,
            images.judged,
            seeds=seeds,
            command=command,
            described=images.words,
            plan=plan,
            on_point=step,
        )
    if before is not None:
        found = found.joined(before)
    file.write_text(found.toml(), encoding="utf-8")
    if json:
        output.print_json({"file": str(file), "points": len(found.point)})
    else:
        output.people.print(f"{counted(len(found.point), 'point', 'points')} in {file}")


def _plan(fresh: bool, queries: str | None, spends: str | None) -> Plan:
    """Return what is measured of each network; raises SettingError."""
    if not fresh:
        for name, value in (("--fresh-queries", queries), ("--fresh-spends", spends)):
            if value is not None:
                raise SettingError(name, value, "left out with --no-fresh")
        return Plan(fresh_spends=(), fresh_queries=())
    plan = Plan()
    if queries is not None:
        plan = replace(plan, fresh_queries=ask.whole_numbers("--fresh-queries", queries))
    if spends is not None:
        plan = replace(plan, fresh_spends=ask.numbers("--fresh-spends", spends))
    return plan


@app.command("show")
def show(
    queries: options.QueryCounts = ("1,3,10,30,100,255,1000"),
    model: options.Model = "noise-aware",
    mu: options.Mu = 0.57,
    gain: options.Gain = 1.3,
    fresh_order: Fresh = False,
    decoys: options.Decoys = 0,
    table_file: Annotated[
        Path | None,
        typer.Option("--table", help="Table of measured copies (default: the shipped one)."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Look up the best copy after a number of queries, without running an attack.

    A thief may leave queries alone and put the noise that all of them are allowed into the others:
    no figure is below that of fewer queries. The noise of decoys is accepted, so that a thief has
    that of --decoys more clones.
    """
    counts = ask.whole_numbers("--query-counts", queries)
    network = load_network(model)
    require_decoys(decoys, network.sizes[-1])
    settings = _settings(mu, gain, 0, fresh_order, decoys)
    known = load_copies(table_file)
    order = Order.FRESH if fresh_order else Order.FIXED
    refused = known.refusal(network, order)
    rows = _rows(network, settings, counts, known)
    if json:
        output.print_json(
            {
                "model": network.name,
                "mu": mu,
                "gain": gain,
                "fresh_order": fresh_order,
                "decoys": decoys,
                "honest_spend": honest_spend(network, settings),
                "refused": refused,
                "copies": rows,
                "table": known.command,
                "public": known.public,
                "assumptions": [*_ASSUMES, *_LOOKED_UP],
            }
        )
        return
    if refused is not None:
        output.people.print(refused)
        return
    output.table(
        f"Best copy of {network.name} at μ = {mu:g}, G = {gain:g}, order {order}"
        + (f", {counted(decoys, 'decoy', 'decoys')}" if decoys else ""),
        ["queries", "noise", "attack", "best copy", "at most", "classes alone", "beyond"],
        [
            [
                str(row["queries"]),
                row["noise"],
                row["attack"],
                f"{row['accuracy']:.1%}",
                at_most_percent(row["at_most"]),
                f"{row['classes_alone']:.1%}",
                f"{row['beyond_classes_alone']:.1%}",
            ]
            for row in rows
        ],
    )
    output.people.print("assumes: " + "; ".join(_ASSUMES + _LOOKED_UP), style="dim")


def _rows(
    network: Network, settings: SessionSettings, counts: Sequence[int], known: CopyTable
) -> list[dict[str, Any]]:
    """Return the best copies by number of queries, at honest noise and with what hides."""
    rows: list[dict[str, Any]] = []
    means = {False: 0.0, True: 0.0}
    for count in sorted(counts):
        for hidden in (False, True):
            found = best_copy(network, settings, count, hidden=hidden, table=known)
            if found is None:
                continue
            # The mean of the thief with the highest figure may be below that of another.
            means[hidden] = max(means[hidden], found.figure.accuracy)
            rows.append(
                {
                    "queries": count,
                    "noise": "what hides in the sample" if hidden else "honest",
                    "spend": found.spend,
                    "attack": found.attack,
                    "accuracy": means[hidden],
                    "at_most": found.figure.upper,
                    "classes_alone": found.classes_alone.accuracy,
                    "beyond_classes_alone": found.beyond_classes_alone,
                }
            )
    return rows
