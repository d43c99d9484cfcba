"""`labctl label-attack`: how often a curious server names what the client looks at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl import checks
from labctl.cli import link_options, options, output
from labctl.cli.label_curve import measure_curve, write_curve
from labctl.cli.label_decoys import HiddenImages, hidden_among
from labctl.data.mnist import LabelledImages, fetch_training_images
from labctl.data.models import Network, load_network
from labctl.data.tasks import part_to_classify, part_to_learn_from
from labctl.drawing import new_figure, write_png
from labctl.errors import SettingError
from labctl.protocols.carried import Carried, Inputs, carried
from labctl.protocols.encoding import (
    LEAST_PHOTONS,
    MOST_PHOTONS,
    PHOTON_RANGE,
    modes_of,
    require_block_modes,
)
from labctl.protocols.hiding.hiding import require_decoys
from labctl.protocols.labels.curve import load_curves
from labctl.protocols.labels.figures import in_words, mode_overlap
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.leakage import data_bits_journal
from labctl.protocols.link import LayerLight
from labctl.protocols.mismatch import CloneMismatch
from labctl.protocols.server import Server
from labctl.safety import interruptible
from labctl.shares import share_in_words, share_interval
from labctl.studies.attacks.attack import Learned
from labctl.studies.attacks.label_reading import (
    DIMENSIONS,
    LabelReader,
    arriving,
    chance_of,
    success_of,
)
from labctl.studies.attacks.label_set import SetReader, set_success
from labctl.studies.attacks.wishart import Complexes
from labctl.units import db_to_ratio
from labctl.wording import counted

# One photon of 1e10 arrives; a slip beyond.
_MOST_LOSS_DB = 100.0


@dataclass(frozen=True)
class _Result:
    reading: Reading
    learned: Learned

    @property
    def share(self) -> float:
        return self.learned.label_success or 0.0

    @property
    def error(self) -> float:
        return self.learned.label_success_error or 0.0

    def as_json(self, evident: bool) -> dict[str, Any]:
        return {
            "receiver": str(self.reading.receiver),
            "repeats": self.reading.repeats,
            "evidence": self.reading.evidence if evident else None,
            "label_success": self.share,
            "standard_error": self.error,
            "interval": list(share_interval(self.share, self.learned.samples)),
        }


def label_attack(
    gain: options.Gain = 1.02,
    rows: options.OptionalRows = None,
    repeats: Annotated[
        str, typer.Option(help="Numbers of times that each image is sent, with commas between.")
    ] = "1,10,100",
    images: options.Images = 1000,
    templates: Annotated[
        int | None, typer.Option(help="Number of public images that the server has (default: all).")
    ] = None,
    data: options.OptionalData = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download MNIST's training images as templates.")
    ] = False,
    receiver: link_options.Detections = None,
    loss_db: Annotated[
        float,
        typer.Option(
            "--return-loss-db",
            help="Loss in dB from the client's clone to the server's detector, 0 to 100.",
            rich_help_panel=options.LIGHT,
        ),
    ] = 0.0,
    technical_noise: Annotated[
        float,
        typer.Option(
            "--detected-noise",
            help="Technical noise in SNU at the server's detector, 0 or more.",
            rich_help_panel=options.LIGHT,
        ),
    ] = 0.0,
    background_photons: Annotated[
        float,
        typer.Option(help="Photons per mode and row that a counter detects without clone noise."),
    ] = 0.0,
    block_modes: options.OptionalBlockModes = None,
    emission_factor: options.EmissionFactor = 1.0,
    gain_error: options.CloneGainError = 0.0,
    phase_error_rad: options.ClonePhase = 0.0,
    model: options.Model = "noise-aware",
    mean_photons: options.OptionalMu = None,
    decoys: options.Decoys = 0,
    candidates: Annotated[
        bool,
        typer.Option(
            "--candidates",
            help="With --decoys: the server has all images that may be input or decoy, not knowing "
            "which is which, instead of other public images.",
        ),
    ] = False,
    dimensions: Annotated[
        int, typer.Option(help="Number of principal components per block that the server uses.")
    ] = DIMENSIONS,
    seed: options.Seed = 0,
    curve: Annotated[
        Path | None,
        typer.Option(
            "--write-curve",
            help="Measure success against evidence for every way of reading; write it to this "
            "TOML file.",
        ),
    ] = None,
    figure: options.OptionalFigure = None,
    json: options.Json = False,
) -> None:
    """Read labels from the noise that an honest client returns, with public images as templates.

    With --data, templates come from its training part and the attacked images from its test part;
    without it, both come from the shipped test set, and no image is in both. --rows is the number
    of rows of the network's first layer unless given. --mu is needed only with an error of the
    client's clone. With --decoys the server reads all labels of a set and names one; the figure
    that holds for any reader is the cap.
    """
    checks.within("loss_db", loss_db, 0.0, _MOST_LOSS_DB, note=" dB")
    checks.at_least("seed", seed, 0)
    mismatch = CloneMismatch(gain_error, phase_error_rad)
    network = load_network(model)
    light = _light(mismatch, network, mean_photons, rows, block_modes)
    sent = carried(network)
    require_block_modes(block_modes, modes_of(sent.network.sizes[0]))
    count_of_rows = sent.network.sizes[1] if rows is None else rows
    once = Reading(
        gain=gain,
        rows=count_of_rows,
        transmittance=db_to_ratio(-loss_db),
        technical_noise=technical_noise,
        block_modes=block_modes,
        emission_factor=emission_factor,
        background_photons=background_photons,
        mismatch=mismatch,
    )
    readings = _readings(once, receiver or Detection, repeats)
    output.require_png(figure)
    output.require_folder(curve)
    attacked, public = _images(images, templates, data, fetch)
    inputs = _inputs_for(sent, attacked)
    by_rows = light is not None and inputs is sent.inputs and block_modes is None
    if by_rows and mean_photons is not None:
        readings = _seen_by_rows(readings, 0.5 * mean_photons, network, attacked)
    attacked, public = _fed(inputs, attacked), _fed(inputs, public)
    require_decoys(decoys, network.sizes[-1])
    hidden = _hidden(data, inputs, images, decoys, seed, candidates=candidates, curve=curve)
    public = _gallery(hidden, public, templates, candidates, given=bool(data or fetch))
    if curve is not None:
        found = measure_curve(attacked, public, bool(data or fetch), dimensions, seed, curve.name)
        write_curve(curve, found, json=json)
        return
    results = _read_all(readings, light, public, dimensions, hidden, attacked, seed)
    chance = chance_of(attacked.labels)
    spoken = _assumptions(len(public.labels), hidden, candidates=candidates)
    if figure is not None:
        _draw(figure, results, chance, spoken)
    bits = _journal_bits(readings[0], attacked)
    if not json:
        _print(results, gain, count_of_rows, mismatch, attacked)
        _print_assumed(bits, spoken)
        return
    output.print_json(
        {
            **_light_as_json(once, loss_db), "dimensions": dimensions, "seed": seed,
            "images": len(attacked.labels), "templates": len(public.labels), "chance": chance,
            "gain_error": gain_error, "phase_error_rad": phase_error_rad,
            "model": model, "mean_photons": mean_photons, "data_bits_journal": bits,
            **_decoys_as_json(hidden, decoys, candidates),
            # What a mismatch adds is known for whole rows alone.
            "results": [one.as_json(light is None or block_modes is None) for one in results],
            "assumptions": spoken,
        }
    )  # fmt: skip


def _readings(once: Reading, receivers: Iterable[Detection], repeats: str) -> list[Reading]:
    """Return each way of reading, without repeats, with each number of repeats that is listed."""
    return [
        replace(once, receiver=kind, repeats=count)
        for kind in dict.fromkeys(receivers)
        for count in _numbers(repeats)
    ]


def _seen_by_rows(
    readings: Sequence[Reading], photons: float, network: Network, attacked: LabelledImages
) -> list[Reading]:
    """Return readings with what the rows of a network add to the light of a mode."""
    overlap = mode_overlap(network, attacked.images)
    return [replace(each, mode_photons=photons * overlap) for each in readings]


def _read_all(
    readings: Sequence[Reading],
    light: LayerLight | None,
    public: LabelledImages,
    dimensions: int,
    hidden: HiddenImages | None,
    attacked: LabelledImages,
    seed: int,
) -> list[_Result]:
    """Return what the server reads with each setting; stops between two when interrupted."""
    results = []
    with interruptible() as check, output.progress("reading", len(readings), "settings") as step:
        for reading in readings:
            seen = None if light is None else arriving(light, 1.0)
            learned = _read(public, reading, seen, dimensions, hidden, attacked, seed)
            results.append(_Result(reading, learned))
            step(1)
            check()
    return results


def _gallery(
    hidden: HiddenImages | None,
    public: LabelledImages,
    templates: int | None,
    candidates: bool,
    *,
    given: bool,
) -> LabelledImages:
    """Return the server's pictures; where images are hidden, those that it has of their pool."""
    if hidden is None:
        return public
    return hidden.gallery(templates, public if given else None, candidates=candidates)


def _decoys_as_json(hidden: HiddenImages | None, decoys: int, candidates: bool) -> dict[str, Any]:
    return {
        "decoys": decoys,
        "candidates": candidates,
        "label_cap": None if hidden is None else hidden.decoys.cap,
        "guess_error": None if hidden is None else hidden.decoys.guess_error,
    }


def _print_assumed(bits: float, spoken: Sequence[str]) -> None:
    bits_line = f"data leakage of one sending, journal version: {bits:.3g} bit per symbol"
    for line in (bits_line, "assumes: " + "; ".join(spoken)):
        output.people.print(line, style="dim")


def _journal_bits(reading: Reading, attacked: LabelledImages) -> float:
    """Return the data leakage of one sending in bit per symbol, by the journal version."""
    return data_bits_journal(
        reading.gain,
        modes_of(attacked.images.shape[1]),
        reading.rows,
        block_modes=reading.block_modes,
        emission_factor=reading.emission_factor,
    )


def _light_as_json(reading: Reading, loss_db: float) -> dict[str, Any]:
    """Return what all readings have in common of light and receiver."""
    return {
        "gain": reading.gain,
        "rows": reading.rows,
        "loss_db": loss_db,
        "technical_noise": reading.technical_noise,
        "background_photons": reading.background_photons,
        "block_modes": reading.block_modes,
        "emission_factor": reading.emission_factor,
    }


def _inputs_for(sent: Carried, pictures: LabelledImages) -> Inputs:
    """Return the network's inputs, or those of a network of the pictures' size.

    Images of another size are read by their kick alone, as a network of theirs would feed them.
    """
    width = pictures.images.shape[1]
    return sent.inputs if width == sent.inputs.width else Inputs(width)


def _fed(inputs: Inputs, pictures: LabelledImages) -> LabelledImages:
    """Return pictures without the values that are not fed."""
    return LabelledImages(inputs.taken(pictures.images), pictures.labels)


def _light(
    mismatch: CloneMismatch,
    network: Network,
    mean_photons: float | None,
    rows: int | None,
    block_modes: int | None,
) -> LayerLight | None:
    """Return the first layer's light, or None where a matched clone shows nothing of it."""
    if mean_photons is not None:
        holds = LEAST_PHOTONS <= mean_photons <= MOST_PHOTONS
        checks.require(holds, "mean_photons", mean_photons, PHOTON_RANGE)
    if mismatch.matched:
        return None
    if mean_photons is None:
        raise SettingError("mean_photons", None, f"given with a mismatch, {PHOTON_RANGE}")
    if rows is not None:
        raise SettingError("rows", rows, "not given, with a mismatch: those of the network")
    return Server(network, mean_photons, block_modes).light(0)


def _hidden(
    data: Path | None,
    inputs: Inputs,
    images: int,
    decoys: int,
    seed: int,
    *,
    candidates: bool,
    curve: Path | None,
) -> HiddenImages | None:
    """Return the images among their decoys, None without; refuses what does not go together."""
    if not decoys:
        if candidates:
            raise SettingError("--candidates", candidates, "given with --decoys")
        return None
    if curve is not None:
        raise SettingError("--write-curve", str(curve), "left out with --decoys")
    return hidden_among(_fed(inputs, part_to_classify(data)), images, decoys, seed)


def _read(
    public: LabelledImages,
    reading: Reading,
    light: Complexes | None,
    dimensions: int,
    hidden: HiddenImages | None,
    attacked: LabelledImages,
    seed: int,
) -> Learned:
    """Return what a server names that has public images, with or without decoys."""
    if hidden is not None:
        sets = SetReader(public, hidden.decoys, reading, light=light, dimensions=dimensions)
        return set_success(sets, attacked.images, attacked.labels, seed)
    reader = LabelReader(public.images, public.labels, reading, dimensions, light)
    return success_of(reader, attacked.images, attacked.labels, seed)


def _print(
    results: Sequence[_Result],
    gain: float,
    rows: int,
    mismatch: CloneMismatch,
    attacked: LabelledImages,
) -> None:
    """Print the share of labels read, ways of reading side by side."""
    of_them = f"{chance_of(attacked.labels):.1%} of them of the most frequent label"
    kinds = list(dict.fromkeys(one.reading.receiver for one in results))
    cells = {(one.reading.receiver, one.reading.repeats): one for one in results}
    repeats = list(dict.fromkeys(one.reading.repeats for one in results))
    output.table(
        f"Labels read at G = {gain:g}, M = {rows} rows, {in_words(mismatch)} "
        f"({counted(len(attacked.labels), 'image', 'images')}, {of_them}; intervals of 95 %)",
        ["repeats", *(str(kind) for kind in kinds)],
        [
            [
                str(count),
                *(
                    share_in_words(cells[kind, count].share, cells[kind, count].learned.samples)
                    for kind in kinds
                ),
            ]
            for count in repeats
        ],
        numeric=True,
    )


def _images(
    count: int, templates: int | None, folder: Path | None, fetch: bool
) -> tuple[LabelledImages, LabelledImages]:
    """Return attacked images and templates, which share no image."""
    test = part_to_classify(folder)
    split = folder is None and not fetch
    most = len(test.labels) - 1 if split else len(test.labels)
    checks.within("images", count, 1, most)
    attacked = LabelledImages(test.images[:count], test.labels[:count])
    if split:
        public = LabelledImages(test.images[count:], test.labels[count:])
    elif fetch:
        public = fetch_training_images()
    else:
        assert folder is not None
        public = part_to_learn_from(folder)
    kept = len(public.labels) if templates is None else templates
    checks.within("templates", kept, 1, len(public.labels))
    if public.images.shape[1] != attacked.images.shape[1]:
        raise SettingError("pixels of templates", public.images.shape[1], "those of the images")
    return attacked, LabelledImages(public.images[:kept], public.labels[:kept])


def _numbers(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingError("repeats", text, "whole numbers with commas, as 1,10,100") from error
    return list(dict.fromkeys(found))


def _assumptions(templates: int, hidden: HiddenImages | None, *, candidates: bool) -> list[str]:
    if hidden is not None:
        return hidden.assumptions(templates, candidates=candidates)
    return [
        "honest client, server that only looks: the light it sends is as agreed",
        f"{templates} public images of known label, none of those attacked; Bayes' rule over them",
        "layer 1 alone is read; gain, loss, noise and the clone's mismatch are known to the server",
        "heterodyne and homodyne: nothing but such a receiver",
        "photon counting: each returned mode displaced to vacuum in phase and amplitude; light "
        "not nulled and dark counts as stated",
        "a stronger reader may exist: this is a success reached, not a bound",
    ]


def _draw(path: Path, results: Sequence[_Result], chance: float, spoken: Sequence[str]) -> None:
    """Write success against repeats; lines are the shipped curves, where they apply."""
    import numpy as np

    figure = new_figure(8.0, 5.0)
    from matplotlib.ticker import PercentFormatter

    axes = figure.subplots()
    kinds = list(dict.fromkeys(one.reading.receiver for one in results))
    for kind, colour in zip(kinds, ("tab:blue", "tab:green", "tab:red"), strict=False):
        own = [one for one in results if one.reading.receiver is kind]
        axes.errorbar(
            [one.reading.repeats for one in own],
            [one.share for one in own],
            yerr=[one.error for one in own],
            fmt="o",
            capsize=3,
            color=colour,
            label=f"{kind}",
        )
        first = own[0].reading
        if first.block_modes is None and (
            first.background == 0.0 or kind is not Detection.COUNTING
        ):
            curve = load_curves().curve(kind)
            most = max(one.reading.repeats for one in own)
            grid = np.geomspace(1.0, max(most, 2), 60)
            once = first.evidence / first.repeats
            expected = [curve.at_evidence(once * count).share for count in grid]
            axes.plot(grid, expected, "-", color=colour, alpha=0.5, label=f"{kind}, shipped curve")
    axes.axhline(chance, color="dimgray", linestyle=":", label="most frequent label")
    axes.set_xscale("log")
    axes.set_ylim(0.0, 1.0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("times that the same image is sent")
    axes.set_ylabel("labels read by the server")
    axes.set_title(f"G = {results[0].reading.gain:g}, M = {results[0].reading.rows} rows")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    figure.supxlabel("\n".join(spoken[:3]), fontsize=7, color="dimgray")
    write_png(path, figure)
