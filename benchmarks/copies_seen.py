"""Enter the best copies that accepted sessions gave in a table of copies.

    python benchmarks/copies_seen.py benchmarks/copy_frontier.csv data/copy_table.toml

No figure that is looked up in the table is then below a copy that was made. The sessions are those
of `copy_frontier.py`. A public return has other noise than a table's spends describe: left out.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator
from pathlib import Path

from labctl.data.models import load_network
from labctl.protocols.copies.figure import QuerySpend, query_spend
from labctl.protocols.copies.spend import sent_sizes
from labctl.protocols.copies.table import SeenCopy, load_copies
from labctl.protocols.disguise import FRESH_ORDER
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings

HONEST, HIDDEN, AT_ONCE = "principal-modes", "principal-modes-hidden", "principal-modes-at-once"
# Model, mean photons, gain, decoys; thief, queries.
Cell = tuple[str, float, float, int, str, int]


def accepted(path: Path) -> dict[Cell, list[float]]:
    """Return what the copies of accepted sessions are worth, by service, thief and queries."""
    found: dict[Cell, list[float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["accepted"] != "True" or row["return_modes"] != "0":
                continue
            served = row["model"], float(row["mu"]), float(row["gain"]), int(row["decoys"])
            worth = max(float(row["as_stolen"]), float(row["finished"]))
            found.setdefault((*served, row["thief"], int(row["queries"])), []).append(worth)
    return found


def spend_of(model: str, mu: float, gain: float, decoys: int) -> QuerySpend:
    """Return what one query of a service leaves to a thief."""
    settings = SessionSettings(
        light=Light(mu, FRESH_ORDER),
        channel=Channel(),
        receiver=CloneReceiver(gain, 1.0, IDEAL_HOMODYNE),
        verifier=IDEAL_HOMODYNE,
        assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
        sampling=Sampling.ALL,
        seed=0,
        hiding=Hiding(decoys),
    )
    return query_spend(sent_sizes(load_network(model)), settings)


def seen_in(path: Path) -> Iterator[SeenCopy]:
    """Yield the best copies of thieves that spent all they had in one query.

    At honest noise; with what hides in that query; with what is left over of all queries, too.
    """
    for (model, mu, gain, decoys, thief, queries), worth in accepted(path).items():
        spend = spend_of(model, mu, gain, decoys)
        if (thief, queries) == (HONEST, 1):
            spent = spend.steady
        elif thief == AT_ONCE or (thief, queries) == (HIDDEN, 1):
            spent = queries * spend.steady + math.sqrt(queries) * spend.hides
        else:
            continue
        yield SeenCopy(
            network_sha256=load_network(model).sha256,
            queries=1,
            spend=spent,
            highest=max(worth),
            sessions=len(worth),
        )


def main() -> None:
    """Read the sessions, and write the table."""
    parser = argparse.ArgumentParser(description="Best copies of sessions, into a table.")
    parser.add_argument("sessions", type=Path)
    parser.add_argument("table", type=Path)
    chosen = parser.parse_args()
    seen = tuple(seen_in(chosen.sessions))
    joined = load_copies(chosen.table).model_copy(update={"seen": seen})
    chosen.table.write_text(joined.toml(), encoding="utf-8")
    print(f"{len(seen)} best copies of {chosen.sessions} in {chosen.table}")


if __name__ == "__main__":
    main()
