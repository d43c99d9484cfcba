"""`labctl false-alarms`: how often honest sessions are rejected, counted against what is stated."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated

import typer

from labctl.cli import output
from labctl.errors import SettingError
from labctl.safety import interruptible
from labctl.studies.attacks.false_alarms import (
    CONFIDENCE,
    HONEST,
    FalseAlarms,
    count_false_alarms,
)


def false_alarms(
    sessions: Annotated[int, typer.Option(help="Honest sessions to run.")] = 10_000,
    probability: Annotated[
        list[float] | None,
        typer.Option(help="Stated false-alarm probability; may be given more than once."),
    ] = None,
    inputs: Annotated[int, typer.Option(help="Inputs of the random network.")] = 64,
    hidden: Annotated[int, typer.Option(help="Rows of its first layer.")] = 32,
    images: Annotated[int, typer.Option(help="Images per session.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the first session.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run honest sessions from light to verdict and count those that are rejected."""
    stated = probability or [1e-2, 1e-3]
    if seed < 0:
        raise SettingError("--seed", seed, "0 or more")
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
        f"{sessions} honest sessions, network {inputs}-{hidden}-10, {images} image(s) each",
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
