"""A calibration as one HTML file to read, print and keep: quantities, budgets, figures, states."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape

from labctl.calibration.applicability import Judgement, State, duration
from labctl.calibration.quantity import Quantity, written
from labctl.calibration.record import Record
from labctl.calibration.store import Store
from labctl.errors import RecordError
from labctl.plain_file import read_plain
from labctl.version import __version__

_STYLE = """
:root { color-scheme: light }
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1f24; max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .2rem }
h2 { font-size: 1.2rem; margin: 2rem 0 .3rem; border-top: 1px solid #d0d7de; padding-top: 1rem }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
table { border-collapse: collapse; margin: .4rem 0 1rem; width: 100% }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; vertical-align: top;
  border-bottom: 1px solid #e4e8ec; overflow-wrap: anywhere }
th { font-weight: 600; color: #57606a }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap }
figure { margin: .6rem 0 } img { max-width: 100%; height: auto }
code { font-size: .9em } .note { color: #57606a }
.state { font-weight: 600 } .applicable { color: #1a7f37 } .uncertain { color: #9a6700 }
.expired, .mismatch, .missing, .damaged { color: #b42318 }
section, figure, tr { break-inside: avoid } h2, h3 { break-after: avoid }
@page { size: A4; margin: 15mm }
@media print { body { max-width: none; margin: 0; padding: 0; font-size: 10pt }
  section { break-inside: auto } }
"""
# Of the intervals that a report states: the usual level (GUM, 6.3).
_CONFIDENCE = 0.95
# A figure has 30 kB.
_MOST_BYTES = 1 << 24


@dataclass(frozen=True)
class ReportEntry:
    """One routine in a report: its record, None where there is none, and what that is worth."""

    station: str
    routine: str
    title: str
    record: Record | None
    judgement: Judgement


def report_html(store: Store, entries: Sequence[ReportEntry], now: datetime) -> str:
    """Return a report as one HTML document that needs no other file.

    Raw data that changed and figures that are gone are said in their place.
    """
    stations = ", ".join(sorted({entry.station for entry in entries})) or "none"
    if len({entry.station for entry in entries}) > 1:
        entries = [replace(entry, routine=f"{entry.station}: {entry.routine}") for entry in entries]
    measured = [(entry, entry.record) for entry in entries if entry.record is not None]
    parts = [
        f"<h1>Calibration of station {escape(stations)}</h1>",
        f'<p class="note">Written {_time(now)} by labctl {escape(__version__)} from the records '
        f"in {_code(str(store.folder.resolve()))}. {escape(_counts(entries))}</p>",
        _summary(entries),
        '<p class="note">± is one standard uncertainty (k = 1), to two digits. The interval holds '
        f"the truth with {_CONFIDENCE:.0%} confidence: k standard uncertainties to each side, k "
        "from Student's t with ν effective degrees of freedom (GUM, JCGM 100:2008, annex G).</p>",
        *(_section(store, entry, record) for entry, record in measured),
    ]
    return _document(f"Calibration of {stations}", "\n".join(parts))


def _document(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _counts(entries: Sequence[ReportEntry]) -> str:
    states = [entry.judgement.state for entry in entries]
    said = [f"{states.count(state)} {state}" for state in State if state in states]
    return f"Routines: {', '.join(said) or 'none'}."


def _summary(entries: Sequence[ReportEntry]) -> str:
    rows = [row for entry in entries for row in _summary_rows(entry)]
    columns = ["routine", "quantity", "value", "95 % interval", "k", "ν", "state", "valid until"]
    return _table(columns, rows)


def _summary_rows(entry: ReportEntry) -> list[list[str]]:
    routine, state = escape(entry.routine), _state(entry.judgement.state)
    if entry.record is None:
        return [[routine, "", "", "", "", "", state, ""]]
    until = _time(entry.record.valid_until)
    return [
        [routine, _code(name), *_quantity_cells(row.quantity()), state, until]
        for name, row in entry.record.quantities.items()
    ]


def _quantity_cells(quantity: Quantity) -> list[str]:
    factor = quantity.coverage_factor(_CONFIDENCE)
    expanded = written(quantity.value, factor * quantity.standard_uncertainty)
    if quantity.span is not None:
        low, high = quantity.interval(_CONFIDENCE)
        expanded = f"{low:.4g} to {high:.4g}"
    return [
        _number(str(quantity)),
        _number(expanded + _unit(quantity)),
        _number(f"{factor:.3g}"),
        _number(f"{quantity.degrees_of_freedom:.3g}".replace("inf", "∞")),
    ]


def _section(store: Store, entry: ReportEntry, record: Record) -> str:
    said = [
        f"<section><h2>{escape(entry.routine)}</h2>",
        f"<p>{escape(entry.title)}</p>" if entry.title else "",
        f"<p>{_state(entry.judgement.state)}: {escape(entry.judgement.reason)}</p>",
        _picture(store, entry, record),
        *(f"<p>{escape(remark)}</p>" for remark in record.remarks),
        *(_budget(name, row.quantity()) for name, row in record.quantities.items()),
        _circumstances(record),
        _origin(store, record),
        "</section>",
    ]
    return "\n".join(part for part in said if part)


def _picture(store: Store, entry: ReportEntry, record: Record) -> str:
    try:
        content = base64.b64encode(read_plain(store.figure(record), _MOST_BYTES)).decode()
    except (RecordError, OSError) as error:
        return f'<p class="damaged">{escape(str(error))}</p>'
    alternative = escape(f"Data and fit of {entry.routine}")
    return f'<figure><img alt="{alternative}" src="data:image/png;base64,{content}"></figure>'


def _budget(name: str, quantity: Quantity) -> str:
    variance = quantity.standard_uncertainty**2
    parts = sorted(quantity.budget.items(), key=lambda part: -part[1])
    rows = [
        [
            escape(source),
            _number(f"{part:.2g}{_unit(quantity)}"),
            _number(f"{part**2 / variance:.1%}" if variance > 0.0 else "–"),
        ]
        for source, part in parts
    ]
    heading = f"<h3>{_code(name)} = {escape(str(quantity))}</h3>"
    return heading + _table(["source", "standard uncertainty", "share of the variance"], rows)


def _unit(quantity: Quantity) -> str:
    return "" if quantity.unit == "1" else f" {quantity.unit}"


def _circumstances(record: Record) -> str:
    instruments = [[_code(role), escape(who)] for role, who in record.subject.items()]
    settings = [[_code(name), escape(str(value))] for name, value in record.settings.items()]
    conditions = [
        [_code(name), _number(f"{row.value:.6g} ± {row.tolerance:.2g} {row.unit}")]
        for name, row in record.conditions.items()
    ]
    return (
        _titled("Instruments", ["role", "maker, model, serial number"], instruments)
        + _titled("Settings that must be the same", ["setting", "value"], settings)
        + _titled("Conditions", ["condition", "value and what is tolerated"], conditions)
    )


def _origin(store: Store, record: Record) -> str:
    rows = [
        ["record", _code(record.id)],
        ["taken", _time(record.taken_at)],
        ["valid for", escape(duration(record.valid_for_s))],
        ["labctl", escape(record.version)],
        ["raw data", _raw_data(store, record)],
        *(
            [f"rests on {escape(routine)}", _code(identifier)]
            for routine, identifier in record.used.items()
        ),
    ]
    return _titled("Record", ["", ""], rows)


def _raw_data(store: Store, record: Record) -> str:
    if record.raw is None:
        return "none"
    try:
        arrays = store.raw(record)
    except RecordError as error:
        return f'<span class="damaged">{escape(str(error))}</span>'
    return (
        f"{_code(record.raw)}, as it was written (SHA-256 {_code(record.digest or '')}): "
        + escape(", ".join(arrays))
    )


def _titled(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"<h3>{escape(title)}</h3>{_table(columns, rows)}" if rows else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are HTML already."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    head = f"<thead><tr>{head}</tr></thead>" if any(columns) else ""
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _cell(content: str) -> str:
    return content if content.startswith("<td") else f"<td>{content}</td>"


def _number(text: str) -> str:
    return f'<td class="number">{escape(text)}</td>'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _state(state: State) -> str:
    return f'<span class="state {state}">{state}</span>'


def _time(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
