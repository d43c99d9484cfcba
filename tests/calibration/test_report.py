"""The report is one HTML file that holds everything and escapes what it quotes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from labctl import __version__
from labctl.calibration.applicability import Judgement, State
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import Record
from labctl.calibration.report import ReportEntry, report_html
from labctl.calibration.routine import Condition, Outcome
from labctl.calibration.store import About, Store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVIL = "<script>alert('1')</script> & \"quoted\""
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Checks that tags are balanced and keeps text, tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.cells: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data


def draw(figure: Figure) -> None:
    figure.subplots().plot([0.0, 1.0], [0.0, 1.0])


def outcome(**quantities: Quantity) -> Outcome:
    return Outcome(
        {Name(name): each for name, each in quantities.items()}
        or {Name("gain"): Quantity.of(2.0, "1", {"meter": 0.03, "noise": 0.04})},
        {"x": np.arange(4.0)},
        draw,
        {"room_c": Condition(21.0, 2.0, "degC")},
        ("the room was warm",),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def kept(store: Store, measured: Outcome, routine: str = "gain", **changes: object) -> Record:
    told: dict[str, object] = {"subject": {"server.laser": "Maker L1 7"}, "used": {}, **changes}
    subject, used = told["subject"], told["used"]
    assert isinstance(subject, Mapping)
    assert isinstance(used, Mapping)
    about = About(routine, "demo", subject, {"f_hz": 1.9e14}, 3600.0, used)
    return store.append(about, measured, NOON)


def page(store: Store, *records: Record | None, state: State = State.APPLICABLE) -> Page:
    entries = [
        ReportEntry(
            "demo",
            "loss" if record is None else record.routine,
            "what it is",
            record,
            Judgement(State.MISSING if record is None else state, "because of it"),
        )
        for record in records
    ]
    return Page(report_html(store, entries, NOON))


def test_everything_about_a_record_stands_there(store: Store) -> None:
    base = kept(store, outcome(), "base")
    record = kept(store, outcome(), used={"base": base.id})
    found = page(store, record)
    for told in (
        "Calibration of station demo",
        f"labctl {__version__}",
        "2026-03-01 12:00 UTC",
        "2026-03-01 13:00 UTC",
        "2.000 ± 0.050",
        "2.000 ± 0.098",
        "because of it",
        "what it is",
        "server.laser",
        "Maker L1 7",
        "f_hz",
        "21 ± 2 degC",
        "the room was warm",
        "rests on base",
        record.id,
        base.id,
        str(record.digest),
        "as it was written",
    ):
        assert told in found.text, told
    for cell in ("noise", "0.04", "64.0%", "meter", "0.03", "36.0%", "∞", "1.96", "applicable"):
        assert cell in found.cells, cell


def test_the_interval_is_student_s_where_there_are_few_readings(store: Store) -> None:
    few = Quantity.of(1.0, "V", {"readings": 0.1}, degrees_of_freedom=4.0)
    cells = page(store, kept(store, outcome(few_v=few))).cells
    assert "1.00 ± 0.10 V" in cells
    assert "1.00 ± 0.28 V" in cells
    assert "2.78" in cells
    assert "4" in cells


def test_the_figure_is_in_the_file_and_nothing_else_is_needed(store: Store) -> None:
    record = kept(store, outcome())
    found = page(store, record)
    images = [attributes for tag, attributes in found.seen if tag == "img"]
    assert len(images) == 1
    source = images[0]["src"] or ""
    kind, content = source.split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == store.figure(record).read_bytes()
    assert images[0]["alt"] == "Data and fit of gain"
    assert not [tag for tag, _ in found.seen if tag in ("script", "link", "iframe")]


def test_whatever_a_record_quotes_is_escaped(store: Store) -> None:
    measured = Outcome(
        {Name(EVIL): Quantity.of(1.0, EVIL, {EVIL: 0.1})},
        {"x": np.arange(2.0)},
        draw,
        {EVIL: Condition(1.0, 1.0, EVIL)},
        (EVIL,),
    )
    about = About(EVIL, EVIL, {EVIL: EVIL}, {EVIL: EVIL}, 60.0, {})
    record = store.append(about, measured, NOON)
    entry = ReportEntry(EVIL, EVIL, EVIL, record, Judgement(State.UNCERTAIN, EVIL))
    found = Page(report_html(store, [entry], NOON))
    assert "script" not in [tag for tag, _ in found.seen]
    assert found.text.count(EVIL) > 10


@pytest.mark.parametrize("state", [state for state in State if state is not State.MISSING])
def test_each_state_is_said_in_words(store: Store, state: State) -> None:
    found = page(store, kept(store, outcome()), state=state)
    assert str(state) in found.cells
    assert f"1 {state}." in found.text


def test_what_was_never_measured_is_in_the_table_alone(store: Store) -> None:
    found = page(store, kept(store, outcome()), None)
    assert "loss" in found.cells
    assert "missing" in found.cells
    assert "1 applicable, 1 missing" in found.text
    assert [tag for tag, _ in found.seen].count("section") == 1


def test_changed_raw_data_and_a_lost_figure_are_said(store: Store) -> None:
    record = kept(store, outcome())
    store.figure(record).unlink()
    (store.folder / str(record.raw)).write_bytes(b"other")
    found = page(store, record)
    assert "its figure is gone" in found.text
    assert "changed since they were taken" in found.text
    assert "as it was written" not in found.text


def test_a_record_without_raw_data_or_uncertainty_is_told_as_such(store: Store) -> None:
    exact = Outcome({Name("count"): Quantity.of(3.0, "1", {"none": 0.0})}, {}, draw)
    found = page(store, kept(store, exact))
    assert "none" in found.cells
    assert "–" in found.cells


def test_stations_are_told_apart_where_there_are_several(store: Store) -> None:
    record, judgement = kept(store, outcome()), Judgement(State.APPLICABLE, "")
    entries = [ReportEntry(name, "gain", "", record, judgement) for name in ("east", "west")]
    found = Page(report_html(store, entries, NOON))
    assert "Calibration of station east, west" in found.text
    assert {"east: gain", "west: gain"} <= set(found.cells)


def test_a_report_of_nothing_is_a_page_too(store: Store) -> None:
    assert "station none" in page(store).text
