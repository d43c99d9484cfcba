"""`labctl false-alarms`: how often honest sessions are rejected, counted against what is stated."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated

import typer

from labctl import checks
from labctl.cli import attack_options as ask
from labctl.cli import options, output
from labctl.safety import interruptible
from labctl.studies.attacks.false_alarms import (
    CONFIDENCE,
    HONEST,
    FalseAlarms,
    count_false_alarms,
)
from labctl.wording import counted


def false_alarms(
    sessions: options.Sessions = 10_000,
    probabilities: options.FalseAlarmProbabilities = "1e-2,1e-3",
    inputs: Annotated[int, typer.Option(help="Inputs of the random network, 1 or more.")] = 64,
    hidden: Annotated[
        int, typer.Option("--hidden-neurons", help="Neurons of its hidden layer, 1 or more.")
    ] = 32,
    images: options.ImagesPerSession = 1,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Run honest sessions from light to verdict and count those that are rejected."""
    stated = ask.numbers("--false-alarm-probabilities", probabilities)
    checks.at_least("--seed", seed, 0)
    for name, number in (("--inputs", inputs), ("--hidden-neurons", hidden)):
        checks.at_least(name, number, 1)
    settings = replace(HONEST, seed=seed)
    with interruptible() as check, output.progress("honest", sessions, "sessions") as advance:

        def step(count: int) -> None:
            advance(count)
            check()

        found = count_false_alarms(
            stated,
            sessions,
            settings=settings,
            sizes=(inputs, hidden, 10),
            images=images,
            on_session=step,
        )
    if json:
        output.print_json(_values(found, (inputs, hidden, 10), images, seed))
        return
    output.table(
        f"{counted(sessions, 'honest session', 'honest sessions')}, network {inputs}-{hidden}-10, "
        f"{counted(images, 'image', 'images')} each",
        ["stated", "rejected", "measured", f"{CONFIDENCE:.0%} interval", "by check"],
        [_row(each) for each in found],
        numeric=True,
    )


def _values(
    found: tuple[FalseAlarms, ...], sizes: tuple[int, ...], images: int, seed: int
) -> dict[str, object]:
    results = [
        {**asdict(each), "measured": each.measured, "consistent": each.consistent} for each in found
    ]
    return {
        "results": results,
        "confidence": CONFIDENCE,
        "network": list(sizes),
        "images": images,
        "seed": seed,
    }


def _row(each: FalseAlarms) -> list[str]:
    failed = [f"{name} {count}" for name, count in each.by_check.items() if count]
    return [
        f"{each.stated:g}",
        str(each.rejected),
        output.number(each.measured, 3),
        f"{each.lower:.2g} to {each.upper:.2g}",
        ", ".join(failed) or "none",
    ]
