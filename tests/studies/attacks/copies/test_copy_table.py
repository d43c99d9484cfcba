"""The yardstick: figures looked up err on the safe side, and are refused where not measured."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.stats import norm
from sessions import ideal_session

from labctl.data.models import load_network
from labctl.errors import SettingError, StationFileError
from labctl.protocols.copies.figure import copy_figure, load_once
from labctl.protocols.copies.spend import sent_sizes
from labctl.protocols.copies.table import (
    CLASSES_ALONE,
    CopyPoint,
    CopyTable,
    Order,
    SeenCopy,
    ServedNetwork,
    best_copy,
    hidden_spend,
    honest_spend,
    load_copies,
    share_error,
)
from labctl.protocols.disguise import FRESH_ORDER, PLAIN
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.checks import SHARES

# Two of a single copy's standard deviations: that of the mean of two runs is 0.01 below.
ONE_COPY = 2.0 * 2.0**0.5 * 0.01
NETWORK, OTHER = load_network("noise-aware"), load_network("few-rows")


def point(
    attack: str, queries: int, spend: float, accuracy: float, order: Order = Order.FIXED
) -> CopyPoint:
    return CopyPoint(
        network_sha256=NETWORK.sha256,
        order=order,
        attack=attack,
        queries=queries,
        spend=spend,
        accuracy=accuracy,
        standard_error=0.01,
        seeds=2,
    )


def _settings(mean_photons: float, gain: float) -> SessionSettings:
    return ideal_session(mean_photons, gain, seed=0)


TABLE = CopyTable(
    command="labctl copies table",
    public="some",
    judged="others",
    network=(ServedNetwork(name="noise-aware", sha256=NETWORK.sha256, accuracy=0.98),),
    point=(
        point(CLASSES_ALONE, 1, 0.0, 0.2),
        point(CLASSES_ALONE, 10, 0.0, 0.9),
        point("principal-modes", 1, 0.5, 0.6),
        point("principal-modes", 1, 2.0, 0.55),
        point("principal-modes", 1, 8.0, 0.95),
        point("principal-modes", 1, 1.0, 0.4, Order.FRESH),
        point("principal-modes", 10, 1.0, 0.8, Order.FRESH),
    ),
)


def accuracy(queries: int, spend: float, order: Order = Order.FIXED) -> float:
    found = TABLE.best(NETWORK, queries, spend, order)
    assert found is not None
    return found.figure.accuracy


def test_measured_points_come_back_with_two_deviations_of_a_single_copy_more() -> None:
    found = TABLE.best(NETWORK, 1, 0.5)
    assert found is not None
    assert (found.attack, found.figure.accuracy) == ("principal-modes", 0.6)
    assert found.figure.upper == pytest.approx(0.6 + ONE_COPY)
    assert found.classes_alone.accuracy == 0.2
    assert found.beyond_classes_alone == pytest.approx(0.4 + ONE_COPY)


def test_images_that_all_runs_share_count_once_in_a_single_copys_deviation() -> None:
    """Eight runs judged by 2,000 images each: simulated, the variance is right within 5 %."""
    generator = np.random.default_rng(0)
    spread, images, seeds, found = 0.03, 2000, 8, []
    for _ in range(2000):
        runs = np.clip(generator.normal(0.9, spread, seeds), 0.0, 1.0)
        mean, scatter = float(runs.mean()), float(runs.var(ddof=1))
        one = point("principal-modes", 1, 0.5, mean).model_copy(
            update={
                "standard_error": math.hypot(share_error(mean, images), math.sqrt(scatter / seeds)),
                "seeds": seeds,
                "images": images,
            }
        )
        assert one.deviation == pytest.approx(math.hypot(share_error(mean, images), scatter**0.5))
        found.append(one.deviation**2)
    expected = spread**2 + 0.9 * 0.1 / images
    assert float(np.mean(found)) == pytest.approx(expected, rel=0.05)
    assert one.model_copy(update={"images": None}).deviation > one.deviation


def test_a_figure_is_no_lower_than_any_copy_that_was_measured(tmp_path: Path) -> None:
    lucky = point("principal-modes", 1, 0.5, 0.6).model_copy(update={"highest": 0.75, "seeds": 8})
    table = TABLE.model_copy(update={"point": (point(CLASSES_ALONE, 1, 0.0, 0.2), lucky)})
    found = table.best(NETWORK, 1, 0.5)
    assert found is not None
    assert (found.figure.accuracy, found.figure.upper) == (0.6, 0.75)
    (tmp_path / "table.toml").write_text(table.toml(), encoding="utf-8")
    assert load_copies(tmp_path / "table.toml") == table


def test_a_figure_is_no_lower_than_a_copy_that_a_session_gave(tmp_path: Path) -> None:
    """Where the thief had no more, in either order; classes alone are not concerned."""
    seen = SeenCopy(network_sha256=NETWORK.sha256, queries=1, spend=0.4, highest=0.9, sessions=8)
    table = TABLE.model_copy(update={"seen": (seen,)})
    for order in Order:
        with_less, with_more = (table.best(NETWORK, 1, spend, order) for spend in (0.39, 0.5))
        plain = TABLE.best(NETWORK, 1, 0.39, order)
        assert with_less == plain
        assert with_more is not None
        assert with_more.figure.upper == 0.9
        assert with_more.classes_alone.upper < 0.9
    (tmp_path / "table.toml").write_text(table.toml(), encoding="utf-8")
    assert load_copies(tmp_path / "table.toml") == table
    assert table.joined(TABLE).seen == TABLE.joined(table).seen == (seen,)


def test_between_points_the_next_one_counts_and_none_falls() -> None:
    assert accuracy(1, 0.1) == 0.6
    # The point at 2 came out lower by chance: a thief with more is no worse.
    assert accuracy(1, 1.0) == 0.6
    assert accuracy(1, 2.1) == 0.95


def test_spends_of_one_order_add_up_and_those_of_fresh_orders_do_not() -> None:
    assert accuracy(4, 1.5) == accuracy(1, 6.0) == 0.95
    assert accuracy(1, 1.5) == 0.6
    assert accuracy(1, 1.0, Order.FRESH) == 0.4
    assert accuracy(2, 1.0, Order.FRESH) == 0.9
    assert accuracy(10, 0.01, Order.FRESH) == 0.9


def test_fresh_orders_give_a_thief_no_more_than_one_order_for_all_queries() -> None:
    # A spend of 1.5 in fresh orders was not measured; 7.5 in all is below the point at 8.
    assert accuracy(5, 1.5, Order.FRESH) == accuracy(5, 1.5) == 0.95
    fixed = tuple(one for one in TABLE.point if one.order is Order.FIXED)
    alone = TABLE.model_copy(update={"point": fixed})
    assert alone.refusal(NETWORK, Order.FRESH) is None
    assert alone.best(NETWORK, 3, 0.6, Order.FRESH) == alone.best(NETWORK, 3, 0.6)


def test_a_figure_is_no_lower_than_what_was_measured_of_a_thief_with_no_more() -> None:
    """One order for all queries came out at 0.7 by chance, a fresh one at 0.8 with less."""
    lucky = TABLE.model_copy(
        update={
            "point": (
                point(CLASSES_ALONE, 10, 0.0, 0.2),
                point("principal-modes", 1, 11.0, 0.7),
                point("principal-modes", 10, 1.0, 0.8, Order.FRESH),
            )
        }
    )
    found = lucky.best(NETWORK, 10, 1.1, Order.FRESH)
    assert found is not None
    assert found.figure.accuracy == 0.7
    assert found.figure.upper == pytest.approx(0.8 + ONE_COPY)


def test_classes_alone_may_be_the_best() -> None:
    found = TABLE.best(NETWORK, 10, 0.01)
    assert found is not None
    assert found.attack == CLASSES_ALONE
    assert found.beyond_classes_alone == pytest.approx(ONE_COPY)


def test_beyond_all_points_a_copy_is_as_good_as_the_network() -> None:
    assert accuracy(1, 100.0) == 0.98
    assert accuracy(11, 0.01) == 0.98


@given(
    st.integers(1, 30), st.integers(1, 30), st.floats(0.0, 20.0), st.floats(0.0, 20.0),
    st.sampled_from(Order),
)  # fmt: skip
@hypothesis_settings(deadline=None)
def test_more_of_anything_is_never_worse(
    few: int, more: int, little: float, much: float, order: Order
) -> None:
    (few, more), (little, much) = sorted((few, more)), sorted((little, much))
    less = TABLE.best(NETWORK, few, little, order)
    most = TABLE.best(NETWORK, more, much, order)
    assert less is not None
    assert most is not None
    assert less.figure.upper <= most.figure.upper + 1e-12


def test_what_was_not_measured_is_refused_in_words() -> None:
    assert TABLE.best(OTHER, 1, 1.0) is None
    said = TABLE.refusal(OTHER)
    assert said is not None
    assert "'few-rows'" in said
    assert "measured: noise-aware" in said
    assert TABLE.refusal(NETWORK) is None
    with pytest.raises(SettingError, match="1 or more"):
        TABLE.best(NETWORK, 0, 1.0)
    with pytest.raises(SettingError, match="0 or more"):
        TABLE.best(NETWORK, 1, -1.0)


def test_a_table_reads_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "copies.toml"
    path.write_text(TABLE.toml(), encoding="utf-8")
    assert load_copies(path) == TABLE
    path.write_text(TABLE.toml().replace("accuracy = 0.6\n", "accuracy = 6\n"), encoding="utf-8")
    with pytest.raises(StationFileError, match="accuracy"):
        load_copies(path)


def test_tables_of_the_same_images_join_and_the_newer_network_counts() -> None:
    other = TABLE.model_copy(
        update={
            "command": "before",
            "network": (ServedNetwork(name="few-rows", sha256=OTHER.sha256, accuracy=0.9),),
            "point": (
                point(CLASSES_ALONE, 1, 0.0, 0.3).model_copy(
                    update={"network_sha256": OTHER.sha256}
                ),
            ),
        }
    )
    both = TABLE.joined(other)
    assert [one.name for one in both.network] == ["few-rows", "noise-aware"]
    assert both.command == "before; labctl copies table"
    assert both.best(NETWORK, 1, 0.5) == TABLE.best(NETWORK, 1, 0.5)
    assert both.served(OTHER) is not None
    refused = both.refusal(OTHER)
    assert refused is not None, "classes alone say nothing of what the light gives away"
    assert "not measured with an order that is fixed" in refused
    assert TABLE.joined(TABLE).point == TABLE.point
    anew = TABLE.model_copy(update={"point": (point("principal-modes", 1, 0.5, 0.7),)})
    again = anew.joined(TABLE)
    assert len(again.point) == len(TABLE.point), "a point measured again replaces the old one"
    found = again.best(NETWORK, 1, 0.5)
    assert found is not None
    assert found.figure.accuracy == 0.7
    with pytest.raises(SettingError, match="table of some"):
        TABLE.joined(other.model_copy(update={"public": "what else"}))


def test_spends_are_photons_times_noise() -> None:
    """An honest clone spends mu g per row; what hides falls with the root of the queries."""
    settings = _settings(8.91, 1.0128)
    assert honest_spend(NETWORK, settings) == pytest.approx(8.91 * (2.0 - 2.0 / 1.0128))
    once, often = (hidden_spend(NETWORK, settings, queries) for queries in (1, 100))
    slack = once - honest_spend(NETWORK, settings)
    # In standard deviations of the mean square of all modes of one query, accepted nine in ten.
    below = norm.isf(SHARES["pooled noise"] * 1e-6) - norm.isf(0.1)
    hidden = below * (2.0 / 311_248) ** 0.5
    assert slack == pytest.approx(8.91 * (311_248 / 794) * hidden, rel=1e-6)
    assert often - honest_spend(NETWORK, settings) == pytest.approx(slack / 10.0)


def test_hidden_noise_never_makes_a_copy_worse() -> None:
    settings = _settings(0.57, 1.3)
    for queries in (1, 4, 10):
        honest, hidden = (
            best_copy(NETWORK, settings, queries, hidden=hides, table=TABLE)
            for hides in (False, True)
        )
        assert honest is not None
        assert hidden is not None
        assert honest.figure.upper <= hidden.figure.upper
    assert best_copy(OTHER, settings, 1, table=TABLE) is None


def test_scattered_runs_make_no_copy_better_than_the_network_and_no_baseline_higher() -> None:
    scattered = point(CLASSES_ALONE, 10, 0.0, 0.9).model_copy(update={"standard_error": 0.2})
    table = TABLE.model_copy(update={"point": (*TABLE.point[2:], scattered)})
    found = table.best(NETWORK, 10, 0.01)
    assert found is not None
    assert (found.figure.upper, found.classes_alone.accuracy) == (0.98, 0.9)


@pytest.mark.parametrize(
    ("name", "mean_photons", "gain", "decoys"),
    [
        ("noise-aware", 0.57, 1.3, 3),
        ("deep", 0.15, 2.0, 3),
        ("pruned", 2.28, 1.3, 0),
        ("reference", 4.0, 2.0, 0),
        ("many-rows", 2.35, 1.024, 0),
    ],
)
def test_shipped_networks_have_figures_at_the_settings_they_are_served_at(
    name: str, mean_photons: float, gain: float, decoys: int
) -> None:
    """In either order, after one query and after 100, with and without decoys; none falls."""
    network = load_network(name)
    settings = replace(_settings(mean_photons, gain), hiding=Hiding(decoys))
    served = load_once().served(network)
    assert served is not None
    for order in (PLAIN, FRESH_ORDER):
        once, often = (
            copy_figure(
                network.sha256,
                sent_sizes(network),
                replace(settings, light=replace(settings.light, disguise=order)),
                queries,
            )
            for queries in (1, 100)
        )
        assert once.reason is None
        assert once.accuracy is not None
        assert often.accuracy is not None
        assert once.accuracy <= often.accuracy <= served.accuracy + 0.01
        assert once.distance is not None
        assert often.distance is not None
        assert once.distance > 0.2, "the first query is the gap"
        assert often.distance < 0.03, "after a hundred classes alone have nearly all"


def test_the_shipped_table_holds_what_is_documented() -> None:
    shipped = load_copies()
    assert "--data FOLDER" in shipped.command
    names = {one.name: one for one in shipped.network}
    assert shipped.refusal(NETWORK) is None
    for name, served in names.items():
        assert served.sha256 == load_network(name).sha256
    alone = shipped.best(NETWORK, 30, 0.0)
    assert alone is not None
    assert alone.classes_alone.accuracy > 0.93
    once = best_copy(NETWORK, _settings(8.91, 1.0128), 1)
    assert once is not None
    assert once.figure.accuracy > 0.93
    assert once.classes_alone.accuracy < 0.4
