"""Figures of copies that pages print are those of the data files, and what labctl looks up."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from printed_tables import ROOT, Bound, assert_printed, bounds, table_of, text_of

from labctl.data.models import Network, load_network
from labctl.protocols.copies.figure import copy_figure, load_once, query_spend
from labctl.protocols.copies.spend import sent_sizes
from labctl.protocols.copies.table import CLASSES_ALONE, CopyPoint, Order, best_copy
from labctl.protocols.disguise import FRESH_ORDER
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.leakage import Assumptions, Trust, prior_free_bits_per_mode
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings

# Made by `python benchmarks/copy_frontier.py measure benchmarks/copy_frontier.csv --data FOLDER`.
FILE = ROOT / "benchmarks" / "copy_frontier.csv"
HONEST, HIDDEN, AT_ONCE = "principal-modes", "principal-modes-hidden", "principal-modes-at-once"
QUERIES = 1, 30, 100
SERVED = 2000
MODES = 392


@dataclass(frozen=True)
class Service:
    model: str
    mu: float
    gain: float
    decoys: int = 0
    return_modes: int = 0
    # Of what is looked up; sessions of the file have none.
    technical_noise: float = 0.0

    def session(self) -> SessionSettings:
        return SessionSettings(
            light=Light(self.mu, FRESH_ORDER),
            channel=Channel(technical_noise=self.technical_noise),
            receiver=CloneReceiver(self.gain, 1.0, IDEAL_HOMODYNE),
            verifier=IDEAL_HOMODYNE,
            assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
            sampling=Sampling.ALL,
            seed=0,
            hiding=Hiding(self.decoys, self.return_modes or None),
        )


@cache
def network_of(model: str) -> Network:
    return load_network(model)


@cache
def at_most(service: Service, queries: int) -> float:
    """Return what `infer` and `plan` print."""
    network = network_of(service.model)
    found = copy_figure(network.sha256, sent_sizes(network), service.session(), queries).accuracy
    assert found is not None
    return found


def most_after(service: Service) -> list[float]:
    """Return it after 1, 30 and 100 queries, in percent."""
    return bounds(*percent(*(at_most(service, queries) for queries in QUERIES)))


@dataclass(frozen=True)
class Session:
    thief: str
    queries: int
    worth: float
    accepted: bool


def sessions() -> dict[Service, list[Session]]:
    found: dict[Service, list[Session]] = {}
    with FILE.open(encoding="utf-8", newline="") as file:
        for one in csv.DictReader(file):
            service = Service(
                one["model"], float(one["mu"]), float(one["gain"]), int(one["decoys"]),
                int(one["return_modes"]),
            )  # fmt: skip
            worth = max(float(one["as_stolen"]), float(one["finished"]))
            session = Session(one["thief"], int(one["queries"]), worth, one["accepted"] == "True")
            found.setdefault(service, []).append(session)
    return found


SESSIONS = sessions()


def percent(*values: float) -> list[float]:
    return [100.0 * value for value in values]


def copies(service: Service, thief: str, queries: int, *, accepted: bool = True) -> list[float]:
    """Return the worth of a thief's copies in sessions that were accepted, or that were not."""
    return [
        one.worth
        for one in SESSIONS[service]
        if (one.thief, one.queries, one.accepted) == (thief, queries, accepted)
    ]


def told(worth: Sequence[float]) -> list[float]:
    """Return mean, spread of a single copy and the best, in percent; of one copy just its own."""
    if len(worth) == 1:
        return percent(worth[0])
    return percent(float(np.mean(worth)), float(np.std(worth, ddof=1)), max(worth))


def best(service: Service, queries: int) -> list[float]:
    """Return the same of the best thief, with the best copy of any."""
    found = [one for thief in (HONEST, HIDDEN, AT_ONCE) if (one := copies(service, thief, queries))]
    mean, spread, _ = told(max(found, key=lambda one: float(np.mean(one))))
    return [mean, spread, 100.0 * max(map(max, found))]


def served(service: Service) -> float:
    (found,) = (one.worth for one in SESSIONS[service] if one.thief == "service")
    return found


def points(model: str, attack: str) -> list[CopyPoint]:
    sha256 = network_of(model).sha256
    return [
        one
        for one in load_once().point
        if one.network_sha256 == sha256 and one.order is Order.FIXED and one.attack == attack
    ]


def alone(model: str, queries: int) -> CopyPoint:
    (found,) = (one for one in points(model, CLASSES_ALONE) if one.queries == queries)
    return found


def service_of(row: str) -> Service:
    """Read "`deep` 0.15, 2", "deep 0.15, 2, J = 3", "`deep` 0.15, 2, three decoys"."""
    found = re.fullmatch(r"`?([\w-]+)`? ([\d.]+), ([\d.]+)(?:, (?:J = (\d)|(three) decoys))?", row)
    assert found is not None, row
    decoys = 3 if found.group(5) else int(found.group(4) or 0)
    return Service(found.group(1), float(found.group(2)), float(found.group(3)), decoys)


def test_one_query_was_measured_in_eight_sessions_and_many_in_two() -> None:
    """After many queries the spread of single copies is below half a point."""
    for service, found in SESSIONS.items():
        if service.return_modes:
            continue
        for thief in (HONEST, HIDDEN, AT_ONCE):
            assert len([one for one in found if (one.thief, one.queries) == (thief, 1)]) >= 8
        for queries in (30, 100):
            worth = copies(service, AT_ONCE, queries)
            assert len(worth) >= 2
            assert float(np.std(worth, ddof=1)) < 0.005


def test_no_accepted_copy_of_any_session_lies_above_what_is_looked_up() -> None:
    """At honest noise by `copies show`, and with what hides by `infer` and `plan`."""
    for service in SESSIONS:
        if service.return_modes:
            continue
        honest = best_copy(network_of(service.model), service.session(), 1, hidden=False)
        assert honest is not None
        assert max(copies(service, HONEST, 1)) <= honest.figure.upper
        for queries in QUERIES:
            found = max(copies(service, AT_ONCE, queries) + copies(service, HIDDEN, queries))
            assert found <= at_most(service, queries)


def test_the_readme_prints_mean_spread_and_best_and_what_is_looked_up() -> None:
    cells = {}
    for row, honest, hides, *later, most in table_of("README.md", "row", "1 query, honest noise"):
        if row == "classes alone":
            continue
        service = service_of(row)
        cells[f"{row} honest"] = honest, told(copies(service, HONEST, 1))
        for queries, cell in zip(QUERIES, (hides, *later), strict=True):
            cells[f"{row} {queries}"] = cell, best(service, queries)
        noise = 0.001 if service.model == "many-rows" else 0.0
        cells[f"{row} at most"] = most, most_after(replace(service, technical_noise=noise))
    assert_printed(cells)


def test_the_readme_has_every_setting_of_its_first_table() -> None:
    first = {(row[0], float(row[1]), float(row[2])) for row in table_of("README.md", "network", "μ")
             if row[1]}  # fmt: skip
    wanted = {(re.findall(r"`([\w-]+)`", name)[0], mu, gain) for name, mu, gain in first}
    for head in ("no memory between queries", "1 query, honest noise"):
        rows = [row[0] for row in table_of("README.md", "row", head) if row[0] != "classes alone"]
        services = [service_of(row) for row in rows]
        assert {(one.model, one.mu, one.gain) for one in services} == wanted


def test_the_readme_prints_what_classes_alone_give() -> None:
    (cells,) = (
        row for row in table_of("README.md", "row", "1 query, honest noise")
        if row[0] == "classes alone"
    )  # fmt: skip
    assert cells[1] == cells[2]
    first, *later = (alone("deep", queries) for queries in QUERIES)
    assert first.highest is not None
    printed = {"1": (cells[1], percent(first.accuracy, first.spread, first.highest))}
    for one, cell in zip(later, cells[3:], strict=False):
        printed[str(one.queries)] = cell, percent(one.accuracy, one.spread)
    assert_printed(printed)


def test_the_frontier_on_the_page_is_that_of_the_file() -> None:
    cells = {}
    for row, right, honest, *after, most in table_of("docs/copies.md", "setting: μ, G, decoys"):
        service = service_of(row)
        cells[f"{row} served"] = right, percent(served(service))
        cells[f"{row} honest"] = honest, told(copies(service, HONEST, 1))
        for queries, cell in zip(QUERIES, after, strict=True):
            mean, *rest = best(service, queries)
            beyond = mean - 100.0 * alone(service.model, queries).accuracy
            cells[f"{row} {queries}"] = cell, [mean, *rest, beyond]
        cells[f"{row} at most"] = most, most_after(service)
    frontier = {one for one in SESSIONS if not one.return_modes}
    assert {
        service_of(row[0]) for row in table_of("docs/copies.md", "setting: μ, G, decoys")
    } == frontier
    assert_printed(cells)


def test_thieves_of_the_deep_network_on_the_page_are_those_of_the_file() -> None:
    """In brackets around a whole cell: rejected."""
    cells = {}
    for thief, *printed in table_of("docs/copies.md", "thief, deep network"):
        places = [(decoys, queries) for decoys in (0, 3) for queries in QUERIES]
        for (decoys, queries), cell in zip(places, printed, strict=True):
            if cell == "–":
                continue
            service, taken = Service("deep", 0.15, 2.0, decoys), not cell.startswith("(")
            worth = copies(service, thief, queries, accepted=taken)
            assert worth, (thief, decoys, queries)
            cells[f"{thief} J = {decoys} {queries}"] = cell, told(worth)
    assert_printed(cells)


def test_copies_and_a_public_subspace_on_the_page_are_those_of_the_file() -> None:
    cells = {}
    for row, right, bits, steady, most, *stolen in table_of("docs/copies.md", "d of layer 1"):
        number = re.match(r"\d*", row)
        assert number is not None
        service = Service("noise-aware", 8.91, 1.0128, 0, int(number.group() or 0))
        clones = service.return_modes or 1
        noise = clones * service.session().receiver.returned_noise / MODES
        spend = query_spend(sent_sizes(network_of("noise-aware")), service.session())
        cells[f"{row} served"] = right, percent(served(service))
        cells[f"{row} bits"] = bits, bounds(prior_free_bits_per_mode(service.mu, 1.0, noise) / 2.0)
        cells[f"{row} spend"] = steady, [spend.steady]
        cells[f"{row} most"] = most, [spend.most]
        for thief, cell in zip((HONEST, HIDDEN), stolen, strict=True):
            worth = copies(service, thief, 1, accepted=not cell.startswith("("))
            cells[f"{row} {thief}"] = cell, told(worth)
    assert_printed(cells)


def test_curves_over_the_spend_on_the_page_are_those_of_the_shipped_table() -> None:
    """± is the spread of single copies where it is above a point."""
    cells = {}
    for row, *printed in table_of("docs/copies.md", "network (itself)", "0.05"):
        found = re.match(r"([\w-]+) \(([\d.]+)\)", row)
        assert found is not None
        model = found.group(1)
        curve = sorted(points(model, HONEST), key=lambda one: one.spend)
        for point, cell in zip(curve, printed, strict=True):
            spread = percent(point.spread) if point.spread > 0.01 else []
            cells[f"{model} {point.spend}"] = cell, percent(point.accuracy) + spread
        known = load_once().served_of(network_of(model).sha256)
        assert known is not None
        cells[model] = found.group(2), percent(known.accuracy)
    assert_printed(cells)


def test_what_classes_alone_give_on_the_page_is_that_of_the_shipped_table() -> None:
    cells = {}
    for model, *printed in table_of("docs/copies.md", "classes alone"):
        for queries, cell in zip((1, 2, 3, 5, 10, 30, 100), printed, strict=True):
            point = alone(model, queries)
            spread = percent(point.spread) if point.spread > 0.01 else []
            cells[f"{model} {queries}"] = cell, percent(point.accuracy) + spread
    assert_printed(cells)


@pytest.mark.parametrize("order", list(Order))
def test_what_classes_alone_give_is_looked_up_where_it_was_measured(order: Order) -> None:
    """`infer`, `plan` and `copies show` print the page's mean, of no fewer answers than fewer."""
    for served in load_once().network:
        measured: dict[int, float] = {
            one.queries: one.accuracy for one in points(served.name, CLASSES_ALONE)
        }
        for queries in measured:
            found = load_once().best_of(served.sha256, queries, 0.1, order)
            assert found is not None
            fewer = [share for count, share in measured.items() if count <= queries]
            assert found.classes_alone.accuracy == max(fewer), (served.name, queries)


def test_what_the_least_spend_buys_on_the_page_is_looked_up() -> None:
    cells, network = {}, network_of("deep")
    for snr, decoys, gain, mu, steady, most, copy in table_of("docs/copies.md", "F, deep network"):
        service = Service("deep", float(mu), float(gain), int(decoys))
        spend = query_spend(sent_sizes(network), service.session())
        # μ and G are printed to two digits, so that the spends are known to a few percent.
        assert spend.steady == pytest.approx(float(steady), rel=0.1), snr
        assert spend.most == pytest.approx(float(most), rel=0.1), snr
        found = load_once().best(network, 1, float(most), Order.FRESH)
        assert found is not None
        cells[f"{snr} {decoys}"] = copy, bounds(*percent(found.figure.upper))
    assert_printed(cells)


def test_looked_up_copies_on_the_page_are_those_that_are_looked_up() -> None:
    """Honest / hidden, and in brackets what `infer` and `plan` print."""
    cells = {}
    for row, steady, most, *after in table_of("docs/copies.md", "setting, decoys J"):
        found = re.fullmatch(r"`([\w-]+)` μ ([\d.]+), G ([\d.]+), J (\d)", row)
        assert found is not None, row
        model, mu, gain, decoys = found.groups()
        service = Service(model, float(mu), float(gain), int(decoys))
        network, session = network_of(model), service.session()
        spend = query_spend(sent_sizes(network), session)
        cells[f"{row} spend"] = steady, [spend.steady]
        cells[f"{row} most"] = most, [spend.most]
        for queries, cell in zip(QUERIES, after, strict=True):
            honest, hides = (
                best_copy(network, session, queries, hidden=hidden) for hidden in (False, True)
            )
            assert honest is not None
            assert hides is not None
            cells[f"{row} {queries}"] = (
                cell,
                [
                    *percent(honest.figure.accuracy, hides.figure.accuracy),
                    Bound(100.0 * at_most(service, queries)),
                ],
            )
    assert_printed(cells)


def test_the_page_for_whoever_signs_tells_the_noise_aware_networks_first_query() -> None:
    (told_there,) = re.findall(
        r"one query at honest noise: ([\d ±]+) % \(noise-aware", text_of("docs/protection.md")
    )
    mean, spread, _ = told(copies(Service("noise-aware", 0.57, 1.3), HONEST, 1))
    assert_printed({"honest": (told_there, [mean, spread])})


@pytest.mark.parametrize("page", ["docs/protection.md", "docs/copies.md"])
def test_the_deep_networks_first_query_is_told_alike_everywhere(page: str) -> None:
    deep, first = Service("deep", 0.15, 2.0), alone("deep", 1)
    assert first.highest is not None
    sentences = re.findall(
        r"honest noise ([^;()]*\([^()]*\)) %, with what hides ([^;()]*\([^()]*\)) %, "
        r"classes alone ([^;()]*\([^()]*\)) %",
        re.sub(r"\s+", " ", text_of(page)),
    )
    ((honest, hides, classes),) = sentences
    assert_printed(
        {
            "honest": (honest, told(copies(deep, HONEST, 1))),
            "hides": (hides, best(deep, 1)),
            "classes": (classes, percent(first.accuracy, first.spread, first.highest)),
        }
    )
    assert math.isclose(first.seeds, 8)
