"""Bits that the README and pages print are those that labctl works out, bounds rounded up."""

from __future__ import annotations

import re
from functools import cache

import pytest
from printed_tables import Bound, assert_printed, bounds, table_of, text_of

from labctl.data.models import load_network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import modes_of
from labctl.protocols.leakage import Assumptions, LayerShape, Leakage, Trust, leakage_of
from labctl.run import setting
from labctl.run.setting import LeakageOfSetting, leakage_of_setting

UNTRUSTED = Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED)


def named(row: str, mu: str, gain: str) -> tuple[str, float, float, float]:
    """Return network, light, gain and noise of a row; `many-rows` has some noise."""
    found = re.search(r"`([\w-]+)`", row)
    assert found is not None, row
    noise = 0.001 if found.group(1) == "many-rows" else 0.0
    return found.group(1), float(mu), float(gain), noise


def of_row(row: str) -> tuple[str, float, float, float]:
    """Return the same of a row that is headed "`deep` 0.15, 2" or "deep, 0.15, 2"."""
    found = re.fullmatch(r"`?([\w-]+)`?,? ([\d.]+), ([\d.]+)(?:, .*)?", row)
    assert found is not None, row
    return named(f"`{found.group(1)}`", found.group(2), found.group(3))


@cache
def leaked(name: str, mu: float, gain: float, noise: float, queries: int = 1) -> LeakageOfSetting:
    return leakage_of_setting(
        load_network(name),
        mean_photons=mu,
        gain=gain,
        loss_db=0.0,
        technical_noise=noise,
        assumptions=UNTRUSTED,
        queries=queries,
    )


def network_bound(found: Leakage) -> Bound:
    assert found.weights_bits_network is not None
    return Bound(found.weights_bits_network)


def with_decoys(name: str, mu: float, gain: float, noise: float, decoys: int) -> Leakage:
    layers = tuple(
        LayerShape(len(one), modes_of(one.shape[1]), one.shape[1], None, clones=decoys + 1)
        for one in carried(load_network(name)).network.layers
    )
    return leakage_of(
        layers,
        mean_photons=mu,
        gain=gain,
        transmittance=1.0,
        technical_noise=noise,
        assumptions=UNTRUSTED,
        emission_factor=1.0,
    )


@pytest.fixture(autouse=True)
def only_gaussian_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures for Gaussian weights do not depend on the look at the weights, which takes longer."""
    monkeypatch.setattr(setting, "look_at", lambda shape, mean_photons: None)


def test_bits_of_one_query_are_those_of_the_readme() -> None:
    cells = {}
    for row, mu, gain, _, _, honest, network, prior_free in table_of("README.md", "network", "μ"):
        if row.startswith("paper"):
            continue
        found = leaked(*named(row, mu, gain)).one
        values = {
            "honest": (honest, found.weights_bits_per_real),
            "network": (network, network_bound(found)),
            "prior-free": (prior_free, Bound(found.weights_bits_prior_free)),
        }
        for kind, (cell, value) in values.items():
            cells[f"{row} {mu} {kind}"] = cell, (value,)
    assert_printed(cells)


def test_bits_of_one_query_are_those_of_the_decision() -> None:
    cells = {}
    table = table_of("docs/decisions/0029-weight-bounds.md", "bit per real weight and query, T = 1")
    for row, honest, network, prior_free in table:
        told = re.fullmatch(r"([\w-]+), μ ([\d.]+), G ([\d.]+)(?:, .*)?", row)
        assert told is not None, row
        found = leaked(*named(f"`{told.group(1)}`", told.group(2), told.group(3))).one
        cells[f"{row} honest"] = honest, [found.weights_bits_per_real]
        cells[f"{row} network"] = network, [network_bound(found)]
        cells[f"{row} prior-free"] = prior_free, bounds(found.weights_bits_prior_free)
    assert_printed(cells)


def test_the_page_for_whoever_signs_prints_the_same_bits() -> None:
    """Three settings of one query, two of a hundred; each bound rounded up."""
    page = re.sub(r"\s+", " ", text_of("docs/protection.md"))
    settings = [("noise-aware", 0.57, 1.3), ("noise-aware", 8.91, 1.0128), ("reference", 4.0, 2.0)]
    ones = [leaked(*setting, 0.0).one for setting in settings]
    ((first, second, third),) = re.findall(
        r"([\d.]+) bit per weight at μ = 0\.57, G = 1\.3; ([\d.]+) at 8\.91, 1\.0128; "
        r"([\d.]+) at 4, 2 \(\[decision 29\]",
        page,
    )
    ((network,),) = (re.findall(r"network's own bound \| ([\d., ]+) \|", page),)
    ((honest,),) = (re.findall(r"an honest client \| closed form \| ([\d., ]+) \|", page),)
    (many,) = re.findall(
        r"after 100 queries ([\d.]+) bit per weight at 0\.57, 1\.3; ([\d.]+) at 8\.91, 1\.0128",
        page,
    )
    collective = [
        upper
        for setting in settings[:2]
        if (upper := leaked(*setting, 0.0, queries=100).together.collective_upper) is not None
    ]
    assert_printed(
        {
            "prior-free": (
                " ".join((first, second, third)),
                bounds(*(one.weights_bits_prior_free for one in ones)),
            ),
            "network": (network, [network_bound(one) for one in ones]),
            "honest": (honest, [one.weights_bits_per_real for one in ones]),
            "collective": (" ".join(many), bounds(*collective)),
        }
    )


@pytest.mark.parametrize(
    ("page", "head"),
    [
        ("README.md", ("row", "no memory between queries")),
        ("docs/cumulative-leakage.md", ("network, μ, G", "additive")),
    ],
)
def test_bits_after_100_and_1000_queries_are_those_of_the_page(
    page: str, head: tuple[str, ...]
) -> None:
    cells = {}
    for row, *printed in table_of(page, *head):
        both = [leaked(*of_row(row), queries=queries).together for queries in (100, 1000)]
        for name, cell in zip(
            ("additive", "memory_unchecked", "collective", "collective_upper"), printed, strict=True
        ):
            values = [getattr(one, name) for one in both]
            cells[f"{row} {name}"] = cell, values if name == "collective" else bounds(*values)
    assert_printed(cells)


@pytest.mark.parametrize(
    ("page", "head", "columns"),
    [
        ("README.md", ("row", "homodyne with decoys, δ = 0"), {3: -1}),
        ("docs/countermeasures.md", ("network, μ, G", "J = 0", "J = 3"), {0: -2, 3: -1}),
    ],
)
def test_the_price_of_decoys_is_the_one_that_is_printed(
    page: str, head: tuple[str, ...], columns: dict[int, int]
) -> None:
    """Honest and prior-free bits at (J + 1) g/n; `columns`: where those of J decoys stand."""
    cells = {}
    for row in table_of(page, *head):
        for decoys, column in columns.items():
            found = with_decoys(*of_row(row[0]), decoys)
            values = found.weights_bits_per_real, Bound(found.weights_bits_prior_free)
            cells[f"{row[0]} J = {decoys}"] = row[column], values
    assert_printed(cells)
