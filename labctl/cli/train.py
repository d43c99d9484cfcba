"""`labctl train`: train a bias-free network with the protocol's noise in the loop or without."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl.cli import options, output
from labctl.cli.choices import dataset_of
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network, save_network
from labctl.errors import ModelError, SettingError, UsageError
from labctl.safety import interruptible, uninterrupted
from labctl.shares import share_in_words
from labctl.studies.training.dataset import Dataset, held_out_split
from labctl.studies.training.evaluation import (
    SIGNAL_TO_NOISE,
    confusion,
    measured_accuracies,
    with_accuracies,
)
from labctl.studies.training.loop import EpochReport, Training
from labctl.studies.training.report import TrainingReport, check_report_path, write_report
from labctl.studies.training.settings import RECIPES, TrainingSettings

# What an interrupted training loses at most, in s.
_CHECKPOINT_EVERY_S = 60.0


class Recipe(StrEnum):
    """The recipes of the shipped networks."""

    REFERENCE = "reference"
    NOISE_AWARE = "noise-aware"
    FEW_ROWS = "few-rows"
    MANY_ROWS = "many-rows"
    DEEP = "deep"
    STAND_IN = "stand-in"
    PRUNED = "pruned"


def train(
    output_file: Annotated[Path, typer.Argument(help="Where to write the .safetensors file.")],
    recipe: Annotated[Recipe, typer.Option(help="Recipe to start from.")] = Recipe.NOISE_AWARE,
    data: options.OptionalData = None,
    scale: Annotated[
        float | None, typer.Option(help="Divisor of the values of .npz or .csv images.")
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(
            "--hidden-widths",
            help="Neurons of each hidden layer, with commas between (default: the recipe's).",
        ),
    ] = None,
    signal_to_noise: Annotated[
        str | None,
        typer.Option(
            "--signal-to-noise",
            "-F",
            help="F to train at: a number, LOW:HIGH (one drawn for each image), or none.",
        ),
    ] = None,
    technical_noise: Annotated[
        float | None,
        typer.Option(
            "--added-noise",
            help="Variance added to each value, in units of the noise variance that F counts, 0 or "
            "more.",
        ),
    ] = None,
    weight_bits: Annotated[
        int | None, typer.Option(help="Bits of the modulator's drive (default: not rounded).")
    ] = None,
    weight_dither: Annotated[
        float | None,
        typer.Option(
            help="Share of its level's cell, 0 to 1, within which each weight is moved at random, "
            "in training and in the written network (needs --weight-bits and a finer drive)."
        ),
    ] = None,
    value_bits: Annotated[
        int | None, typer.Option(help="Bits of the client's digitizer (default: not rounded).")
    ] = None,
    value_range: Annotated[
        float | None,
        typer.Option(help="Range of the client's digitizer: ± this number of standard deviations."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of passes over the images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Number of images per step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Maximum learning rate of Adam.")
    ] = None,
    max_shift_px: Annotated[
        float | None, typer.Option(help="Maximum random shift of pictures in pixels.")
    ] = None,
    peak_limit: Annotated[
        float | None, typer.Option(help="Maximum of a weight, relative to the RMS of its layer.")
    ] = None,
    averaging: Annotated[
        float | None,
        typer.Option(help="Memory per step of the running mean of the weights, 0 (none) to 1."),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(help="Share of the images that are kept for measuring accuracy, 0 to 1."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Number of epochs without better accuracy on held-out images that ends training."
        ),
    ] = None,
    seed: options.OptionalSeed = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint of an interrupted run.")
    ] = False,
    report: options.OptionalReport = None,
    json: options.Json = False,
) -> None:
    """Train a network (extra `train`); the recipes reproduce the shipped ones from their seed.

    An option that is not given has the recipe's value. --data may also be a .npz or .csv file;
    MNIST is downloaded. The report's name ends in .html, .png or .json.
    """
    _check_output(output_file)
    if report is not None:
        check_report_path(report)
    dataset = dataset_of(data, scale)
    changes = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "max_shift_px": max_shift_px,
        "peak_limit": peak_limit,
        "averaging": averaging,
        "held_out": held_out,
        "patience": patience,
        "seed": seed,
    }
    channel = {
        "technical_noise": technical_noise,
        "weight_bits": weight_bits,
        "weight_dither": weight_dither,
        "value_bits": value_bits,
        "value_range": value_range,
    }
    settings = _settings(RECIPES[recipe], dataset, hidden, signal_to_noise, changes, channel)
    what, images = _to_measure(dataset, settings)
    done = _trained(output_file, settings, dataset, what, images, resume=resume)
    _save(done.network, output_file)
    if report is not None:
        write_report(report, done)
    if json:
        output.print_json(_values(output_file, str(recipe), done, report))
    else:
        _tell(output_file, done, report)


def _check_output(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise SettingError("output file", str(path), "a path that ends with .safetensors")
    if path.exists():
        raise UsageError(f"{path} exists already: choose another name")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: no such folder; must be there to write into")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(
            f"{path.parent}: cannot be written to; must be a folder that you may write to"
        )


def _settings(
    recipe: TrainingSettings,
    dataset: Dataset,
    hidden: str | None,
    signal_to_noise: str | None,
    changes: Mapping[str, Any],
    channel: Mapping[str, Any],
) -> TrainingSettings:
    """Return the recipe with what the user asked otherwise, and what the data ask for."""
    widths = recipe.sizes[1:-1] if hidden is None else _widths(hidden)
    asked: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    if dataset.test is None:
        asked.setdefault("held_out", 0.1)
    if not dataset.square_pictures:
        asked.setdefault("max_shift_px", 0.0)
    if signal_to_noise is not None:
        asked["signal_to_noise"] = _ratio(signal_to_noise)
    own = {name: value for name, value in channel.items() if value is not None}
    asked["channel"] = replace(recipe.channel, **own)
    settings = replace(recipe, sizes=(dataset.inputs, *widths, dataset.classes), **asked)
    if "averaging" in asked:
        return settings
    return settings.with_short_average(len(dataset.train.labels))


def _widths(hidden: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in hidden.split(",") if part.strip())
    except ValueError as error:
        raise SettingError("hidden", hidden, "whole numbers with commas, as 256,128") from error


def _ratio(text: str) -> float | tuple[float, float] | None:
    if text.strip().lower() == "none":
        return None
    low, colon, high = text.partition(":")
    try:
        return (float(low), float(high)) if colon else float(low)
    except ValueError as error:
        valid = "a number, a range such as 0.1:0.4, or none"
        raise SettingError("signal_to_noise", text, valid) from error


def _to_measure(dataset: Dataset, settings: TrainingSettings) -> tuple[str, LabelledImages]:
    """Return the images that the network did not see, and what they are in words."""
    if dataset.test is not None:
        return "test images", dataset.test
    train = dataset.train
    if settings.held_out == 0:
        raise SettingError("held_out", 0.0, "above 0 where there are no test images to measure on")
    _, held_out = held_out_split(settings.seed, settings.held_out, len(train.labels))
    return "held-out images", LabelledImages(train.images[held_out], train.labels[held_out])


def _checkpoint_of(path: Path) -> Path:
    return path.with_suffix(".checkpoint")


def _partial_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}-partial.safetensors")


def _trained(
    path: Path,
    settings: TrainingSettings,
    dataset: Dataset,
    what: str,
    images: LabelledImages,
    *,
    resume: bool,
) -> TrainingReport:
    """Train to the end and measure; what is done by then is kept when it is interrupted."""
    started = time.perf_counter()
    with interruptible() as check:
        # JAX ends the process where an exception strikes its own threads or its import: a signal is
        # held back until it has returned.
        with uninterrupted():
            training = Training(settings, dataset.train.images, dataset.train.labels)
        try:
            _run(training, path, check, resume=resume)
            network, seconds = training.network(path.stem), time.perf_counter() - started
            done = _report(network, training, dataset.class_names, what, images, seconds)
        except KeyboardInterrupt as interruption:
            with uninterrupted():
                interruption.add_note(_keep(training, path))
            raise
    return done


def _run(training: Training, path: Path, check: Callable[[], None], *, resume: bool) -> None:
    """Train what is left to be trained; every minute keep what is done."""
    checkpoint = _checkpoint_of(path)
    if resume:
        training.resume(checkpoint)
    elif checkpoint.exists():
        raise UsageError(
            f"{checkpoint} is left of an interrupted run: continue with --resume, or remove it"
        )
    saved = time.monotonic()
    epochs = training.run()
    with output.progress("training", training.settings.epochs, "epochs") as advance:
        advance(len(training.reports))
        while not training.finished:
            with uninterrupted():
                report = next(epochs)
            advance(1)
            output.say_step(_spoken(report))
            check()
            if time.monotonic() - saved > _CHECKPOINT_EVERY_S:
                training.save(checkpoint)
                saved = time.monotonic()


def _save(network: Network, path: Path) -> None:
    """Write the network, elsewhere if it cannot be written there; then remove the checkpoint."""
    with interruptible(), uninterrupted():
        try:
            save_network(network, path)
        except ModelError as problem:
            kept = Path(tempfile.mkdtemp(prefix="labctl-")) / path.name
            save_network(network, kept)
            raise ModelError(f"{problem}; the trained network is kept in {kept}") from problem
        _checkpoint_of(path).unlink(missing_ok=True)
        _partial_of(path).unlink(missing_ok=True)


def _keep(training: Training, path: Path) -> str:
    """Write the checkpoint and the network so far; return in words what was done."""
    if not training.reports:
        return "before the end of the first epoch: nothing was written"
    training.save(_checkpoint_of(path))
    partial = _partial_of(path)
    save_network(training.network(partial.stem), partial, overwrite=True)
    return (
        f"{len(training.reports)} of {training.settings.epochs} epochs done: network so far in "
        f"{partial}, continue with --resume"
    )


def _spoken(report: EpochReport) -> str:
    text = (
        f"epoch {report.epoch}/{report.epochs}: loss {report.loss:.4f}, "
        f"accuracy {report.accuracy:.2%}"
    )
    if report.held_out_loss is None or report.held_out_accuracy is None:
        return text
    held_out = f"held out: {report.held_out_loss:.4f}, {report.held_out_accuracy:.2%}"
    return f"{text}; {held_out}{' (best)' if report.best else ''}"


def _report(
    network: Network,
    training: Training,
    class_names: tuple[str, ...],
    what: str,
    data: LabelledImages,
    seconds: float,
) -> TrainingReport:
    """Measure the network, and return it with all that is known about it."""
    settings = training.settings
    point, channel = settings.working_point, settings.channel
    ratios = sorted({*SIGNAL_TO_NOISE, point} - {math.inf})
    pictures = (network, data.images, data.labels)
    measured = measured_accuracies(*pictures, ratios, channel=channel)
    return TrainingReport(
        network=with_accuracies(network, measured),
        settings=settings,
        epochs=training.reports,
        measured_on=f"{len(data.labels)} {what}",
        accuracies=measured,
        confusion=confusion(*pictures, point, 0, channel),
        confusion_signal_to_noise=point,
        class_names=class_names,
        seconds=seconds,
    )


def _values(path: Path, recipe: str, done: TrainingReport, report: Path | None) -> dict[str, Any]:
    network = done.network
    return {
        "file": str(path),
        "sha256": network.sha256,
        "recipe": recipe,
        "settings": {**asdict(done.settings), "sizes": list(network.sizes)},
        "epochs_done": len(done.epochs),
        "measured_on": done.measured_on,
        "test_accuracy": {
            name.removeprefix("accuracy "): value
            for name, value in network.provenance.items()
            if name.startswith("accuracy ")
        },
        "report": None if report is None else str(report),
        "seconds": done.seconds,
    }


def _tell(path: Path, done: TrainingReport, report: Path | None) -> None:
    network = done.network
    output.facts(
        f"Trained {' - '.join(map(str, network.sizes))}",
        {
            "file": str(path),
            "sha256": network.sha256,
            "epochs done": network.provenance["epochs done"],
            "time": f"{done.seconds:.0f} s",
            **({} if report is None else {"report": str(report)}),
        },
    )
    output.table(
        f"Accuracy on {done.measured_on}",
        ["F", "accuracy (interval of 95 %)"],
        [
            [
                "no noise" if point.signal_to_noise == math.inf else f"{point.signal_to_noise:g}",
                share_in_words(point.accuracy, point.images, 2),
            ]
            for point in done.accuracies
        ],
        numeric=True,
    )
