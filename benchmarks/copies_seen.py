"""Enter the best copies that accepted sessions gave in a table of copies.

    python benchmarks/copies_seen.py benchmarks/copy_frontier.csv data/copy_table.toml

No figure that is looked up in the table is then below a copy that was made. The sessions are those
of `copy_frontier.py`. A public return has other noise than a table's spends describe: left out.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from copy_frontier import AT_ONCE, HIDDEN, HONEST, QUERIES, Row, copies_of, read, served_by

from labctl.data.models import load_network
from labctl.protocols.copies.figure import query_spend
from labctl.protocols.copies.spend import sent_sizes
from labctl.protocols.copies.table import SeenCopy, load_copies


def seen_in(rows: Sequence[Row]) -> Iterator[SeenCopy]:
    """Yield the best copies of thieves that spent all they had in one query.

    At honest noise; with what hides in that query; with what is left over of all queries, too.
    """
    for service in served_by(rows):
        if service.return_modes:
            continue
        network = load_network(service.model)
        spend = query_spend(sent_sizes(network), service.session())
        for thief, queries in ((HONEST, 1), (HIDDEN, 1), *((AT_ONCE, many) for many in QUERIES)):
            copies = copies_of(rows, service, thief, queries)
            if copies is None:
                continue
            hides = 0.0 if thief == HONEST else math.sqrt(queries) * spend.hides
            yield SeenCopy(
                network_sha256=network.sha256,
                queries=1,
                spend=queries * spend.steady + hides,
                highest=copies.highest,
                sessions=copies.accepted,
            )


def main() -> None:
    """Read the sessions, and write the table."""
    parser = argparse.ArgumentParser(description="Best copies of sessions, into a table.")
    parser.add_argument("sessions", type=Path)
    parser.add_argument("table", type=Path)
    chosen = parser.parse_args()
    seen = tuple(seen_in(read(chosen.sessions)))
    joined = load_copies(chosen.table).model_copy(update={"seen": seen})
    chosen.table.write_text(joined.toml(), encoding="utf-8")
    print(f"{len(seen)} best copies of {chosen.sessions} in {chosen.table}")


if __name__ == "__main__":
    main()
