"""`labctl train`: train a bias-free network, with the protocol's noise in the loop or without."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from labctl.cli import output
from labctl.data.mnist import fetch_training_images, load_images, load_test_images
from labctl.data.models import save_network
from labctl.errors import SettingError, UsageError
from labctl.protocols import training
from labctl.protocols.training import RECIPES, EpochReport, TrainingSettings


class Recipe(StrEnum):
    """The recipes of the shipped networks."""

    REFERENCE = "reference"
    NOISE_AWARE = "noise-aware"


def train(
    output_file: Annotated[Path, typer.Argument(help="Where to write the .safetensors file.")],
    recipe: Annotated[Recipe, typer.Option(help="Start from this recipe.")] = Recipe.NOISE_AWARE,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with idx training (and test) images; default: fetch MNIST."),
    ] = None,
    hidden: Annotated[
        str | None, typer.Option(help="Hidden widths, comma-separated (default: the recipe's).")
    ] = None,
    signal_to_noise: Annotated[
        float | None, typer.Option("--signal-to-noise", "-F", help="F to train at.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed: same seed, same machine, same bits.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a network (extra `train`); the recipes reproduce the shipped ones from their seed."""
    if output_file.suffix != ".safetensors":
        raise SettingError("output file", str(output_file), "a path that ends with .safetensors")
    if output_file.exists():
        raise UsageError(f"{output_file} exists already: choose another name")
    if not output_file.parent.is_dir():
        raise UsageError(f"{output_file.parent}: no such folder; must be there to write into")
    images = load_images(data, "train") if data is not None else fetch_training_images()
    settings = _settings(
        RECIPES[recipe], hidden, signal_to_noise, epochs, seed, images.images.shape[1]
    )
    started = time.perf_counter()
    with output.progress("training", settings.epochs, "epochs") as advance:

        def tell(report: EpochReport) -> None:
            advance(1)
            output.say_step(
                f"epoch {report.epoch}/{report.epochs}: loss {report.loss:.4f}, "
                f"training accuracy {report.accuracy:.2%}"
            )

        network = training.train(settings, images.images, images.labels, tell, output_file.stem)
    seconds = time.perf_counter() - started
    test = load_images(data, "test") if data is not None else load_test_images()
    network = training.with_measured_accuracy(network, test.images, test.labels)
    save_network(network, output_file)
    accuracies = {
        name.removeprefix("accuracy "): value
        for name, value in network.provenance.items()
        if name.startswith("accuracy ")
    }
    values = {
        "file": str(output_file),
        "sha256": network.sha256,
        "recipe": str(recipe),
        "settings": {**asdict(settings), "sizes": list(settings.sizes)},
        "test_accuracy": accuracies,
        "seconds": seconds,
    }
    if json:
        output.print_json(values)
        return
    output.facts(
        f"Trained {' - '.join(map(str, settings.sizes))}",
        {
            "file": str(output_file),
            "sha256": network.sha256,
            **{f"test accuracy, {name}": value for name, value in sorted(accuracies.items())},
            "time": f"{seconds:.0f} s",
        },
    )


def _settings(
    recipe: TrainingSettings,
    hidden: str | None,
    signal_to_noise: float | None,
    epochs: int | None,
    seed: int | None,
    inputs: int,
) -> TrainingSettings:
    """Return the recipe with what the user asked otherwise."""
    widths = recipe.sizes[1:-1]
    if hidden is not None:
        try:
            widths = tuple(int(part) for part in hidden.split(",") if part.strip())
        except ValueError as error:
            raise SettingError("hidden", hidden, "whole numbers with commas, as 256,128") from error
    changed = replace(recipe, sizes=(inputs, *widths, recipe.sizes[-1]))
    if signal_to_noise is not None:
        changed = replace(changed, signal_to_noise=signal_to_noise)
    if epochs is not None:
        changed = replace(changed, epochs=epochs)
    if seed is not None:
        changed = replace(changed, seed=seed)
    return changed
