"""A ledger as a picture: bits that have leaked against queries, under the budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.drawing import new_figure, write_png
from labctl.protocols.ledger.accounts import Balance, named
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.entries import Committed, Entry, PresumedEnded

# Colours that look different: Matplotlib's cycle has ten.
_MOST_CURVES = 8


@dataclass(frozen=True)
class LedgerCurve:
    """An account's sum of bits per real weight after its sum of queries, and its state."""

    balance: Balance
    queries: Sequence[float]
    bits: Sequence[float]


def curves_of(entries: Iterable[Entry], balances: Iterable[Balance]) -> list[LedgerCurve]:
    """Return the history of each account, from 0 on, in the order given."""
    kept = list(balances)
    points: dict[str, list[tuple[float, float]]] = {each.account: [(0.0, 0.0)] for each in kept}
    for entry in entries:
        used = entry.postings if isinstance(entry, Committed | PresumedEnded) else {}
        for account, values in used.items():
            if account in points:
                queries, bits = points[account][-1]
                more = (values.get(Meter.QUERIES, 0.0), values.get(Meter.WEIGHT_BITS, 0.0))
                points[account].append((queries + more[0], bits + more[1]))
    return [LedgerCurve(each, *map(list, zip(*points[each.account], strict=True))) for each in kept]


def draw_ledger(path: Path, curves: Sequence[LedgerCurve], note: str) -> None:
    """Write a PNG: a curve per account, its budget as a dashed line, open reservations as bars.

    At most 8 accounts, those of most bits. `note` says what the figures rest on.
    """
    figure = new_figure(8.0, 4.8)
    axes = figure.subplots()
    most = sorted(curves, key=lambda curve: -curve.bits[-1])[:_MOST_CURVES]
    for number, curve in enumerate(most):
        colour = f"C{number}"
        label = named(curve.balance.account)
        axes.plot(curve.queries, curve.bits, ".-", color=colour, linewidth=1.4, label=label)
        reserved = curve.balance.reserved.value(Meter.WEIGHT_BITS)
        if reserved > 0.0:
            at, top = curve.queries[-1], curve.bits[-1] + reserved
            axes.plot([at, at], [curve.bits[-1], top], "-", color=colour, linewidth=5, alpha=0.35)
        if Meter.WEIGHT_BITS in curve.balance.limits.units:
            limit = curve.balance.limits.value(Meter.WEIGHT_BITS)
            axes.axhline(limit, color=colour, linestyle="--", linewidth=1.2)
            axes.annotate(
                f"budget {limit:.4g} bit",
                (0.01, limit),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                color=colour,
                fontsize=8,
            )
    axes.set_xlim(left=0.0)
    axes.set_ylim(bottom=0.0)
    axes.margins(y=0.12)
    axes.set_xlabel("queries")
    axes.set_ylabel("leaked to the client (prior-free), bit per real weight")
    axes.grid(visible=True, alpha=0.25)
    if most:
        axes.legend(loc="best", fontsize=8)
    figure.supxlabel(note, fontsize=7, color="dimgray")
    write_png(path, figure)
