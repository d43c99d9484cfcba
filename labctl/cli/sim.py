"""`labctl sim serve`: a simulated bench for programs that speak HiSLIP, raw TCP or serial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from labctl.cli import options, output
from labctl.data import shipped_fleet_path
from labctl.instruments.simulated.bench_file import load_bench
from labctl.instruments.simulated.doors.serving import Offer
from labctl.instruments.simulated.doors.serving import serve as serve_doors
from labctl.instruments.simulated.faults.plan import FaultyBench, read_plan

app = typer.Typer(help="Run a simulated bench.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Run a simulated bench."""


@app.command()
def serve(
    bench: Annotated[
        Path | None,
        typer.Argument(help="Bench file (default: every shipped instrument).", show_default=False),
    ] = None,
    faults: Annotated[
        Path | None, typer.Option("--faults", help="Fault plan, TOML: what breaks meanwhile.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Offer every instrument through HiSLIP, TCP and a pseudo-terminal.

    On loopback, unless the bench file says which panel belongs to whom and where its doors are.
    Ctrl-C ends. Time on the bench passes as real time. With --json: one JSON object on a line for
    each instrument, then one that says that the bench is ready.
    """
    path = bench or shipped_fleet_path()
    loaded = load_bench(path)
    if faults is not None:
        FaultyBench(loaded).plan(read_plan(faults))

    def announce(offers: Sequence[Offer]) -> None:
        if json:
            for offer in offers:
                output.print_json(asdict(offer))
            print('{"ready": true}', flush=True)
        else:
            show(path, offers)

    serve_doors(loaded, announce)


def show(path: Path, offers: Sequence[Offer]) -> None:
    """Print where each instrument is, for people."""
    columns = ["instrument", "panel", "HiSLIP", "socket", "pseudo-terminal"]
    has_sides = any(offer.side for offer in offers)
    rows = []
    for offer in offers:
        whose = [offer.side] if has_sides else []
        row = (offer.name, *whose, offer.panel, offer.hislip, offer.socket, offer.pty)
        rows.append([each or "–" for each in row])
    output.table(f"Bench {path}", [*columns[:1], *(["side"] * has_sides), *columns[1:]], rows)
    print("serving, Ctrl-C ends", flush=True)
