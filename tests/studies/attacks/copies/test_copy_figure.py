"""The best copy at a setting: what a thief may spend, how the figure errs, where there is none."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sessions import ideal_session

from labctl.data.models import load_network
from labctl.errors import SettingError
from labctl.protocols.copies.figure import (
    UNWATCHED,
    CopyFigure,
    QuerySpend,
    copy_figure,
    figure_of,
    most_queries,
    query_spend,
)
from labctl.protocols.copies.table import (
    CLASSES_ALONE,
    CopyPoint,
    CopyTable,
    Order,
    ServedNetwork,
    honest_spend,
)
from labctl.protocols.disguise import FRESH_ORDER
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.settings import Sampling

SHA, SIZES = "0" * 64, (784, 784, 784, 10)
UNTRUSTED = Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED)
SETTINGS = ideal_session(0.15, 2.0, seed=0)
TRUSTED = Assumptions(loss=Trust.TRUSTED, technical_noise=Trust.TRUSTED)
# Two of a single copy's standard deviations: that of the mean of two runs is 0.001 below.
ONE_COPY = 2.0 * math.sqrt(2.0) * 0.001
# Modes per row of the network, by hand.
ROW_MODES = (2 * 784 + 10) * 392 / (2 * 784 + 10)


def a_table() -> CopyTable:
    """Return a table in which a copy gets better with queries and with the root of the spend."""

    def point(attack: str, order: Order, queries: int, spend: float, accuracy: float) -> CopyPoint:
        return CopyPoint(
            network_sha256=SHA,
            order=order,
            attack=attack,
            queries=queries,
            spend=spend,
            accuracy=accuracy,
            standard_error=0.001,
            seeds=2,
        )

    qnd = "principal-modes"
    points = [point(CLASSES_ALONE, Order.FIXED, q, 0.0, 0.01 * q) for q in (1, 3, 10, 30)]
    for spend in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0):
        better = 0.1 * math.log2(spend / 0.125)
        points.append(point(qnd, Order.FIXED, 1, spend, 0.2 + better))
        points += [point(qnd, Order.FRESH, q, spend, 0.2 + better + 0.001 * q) for q in (3, 10, 30)]
    return CopyTable(
        command="by hand",
        public="some",
        judged="others",
        network=(ServedNetwork(name="by-hand", sha256=SHA, accuracy=0.95),),
        point=tuple(points),
    )


TABLE = a_table()


def accuracy(order: Order, queries: int, steady: float, hides: float) -> float:
    found = figure_of(SHA, order, queries, QuerySpend(steady, hides), table=TABLE)
    assert found.accuracy is not None
    return found.accuracy


def test_an_honest_clone_spends_mu_times_its_noise_and_decoys_as_much_each() -> None:
    spend = query_spend(SIZES, SETTINGS)
    # Excess noise of one clone at G = 2 is 1 SNU in its mode.
    assert spend.steady == pytest.approx(0.15)
    for decoys in (1, 3, 9):
        hidden_among = query_spend(SIZES, replace(SETTINGS, hiding=Hiding(decoys)))
        assert hidden_among.steady == pytest.approx((decoys + 1) * 0.15)
        assert hidden_among.hides == pytest.approx(spend.hides), "the sample is the same"


def test_blocks_are_cloned_one_by_one() -> None:
    in_blocks = query_spend(
        SIZES, replace(SETTINGS, channel=replace(SETTINGS.channel, block_modes=98))
    )
    assert in_blocks.steady == pytest.approx(4 * 0.15)


def test_lost_light_and_technical_noise_are_the_thiefs_unless_trusted() -> None:
    worse = replace(SETTINGS, channel=replace(SETTINGS.channel, loss_db=1.0, technical_noise=0.002))
    left = 10 ** (-0.1)
    at_server = 0.15 * math.sqrt(left) / ROW_MODES / 0.15
    expected = 0.15 * ROW_MODES * ((at_server + 0.002) / left + 1.0 - left)
    assert query_spend(SIZES, worse).steady == pytest.approx(expected)
    trusting = query_spend(SIZES, replace(worse, assumptions=TRUSTED))
    assert trusting.steady == pytest.approx(0.15 * math.sqrt(left))


def test_the_yardstick_and_the_figure_agree_on_an_honest_client_without_loss() -> None:
    network = load_network("few-rows")
    spend = query_spend(network.sizes, SETTINGS)
    assert spend.steady == pytest.approx(honest_spend(network, SETTINGS))


def test_all_noise_that_many_queries_are_allowed_may_go_into_one() -> None:
    alone = accuracy(Order.FRESH, 1, 0.25, 0.25)
    assert alone == pytest.approx(0.4 + ONE_COPY)
    # Of 10 queries 10 x 0.1 + sqrt(10) x 0.3 = 1.95 in one, where the point at 2 has 0.6.
    assert accuracy(Order.FRESH, 10, 0.1, 0.3) == pytest.approx(0.6 + ONE_COPY)


def test_with_one_order_it_is_all_the_same_where_the_noise_goes() -> None:
    # 16 x 0.0625 + sqrt(16) x 0.25 = 2 in all.
    assert accuracy(Order.FIXED, 16, 0.0625, 0.25) == pytest.approx(0.6 + ONE_COPY)
    # Judged one by one each query has what hides in one: 5 in all.
    assert accuracy(Order.FIXED, 16, 0.3125, 0.0) == pytest.approx(0.8 + ONE_COPY)


@given(
    st.sampled_from(Order), st.integers(1, 29), st.floats(0.0, 6.0), st.floats(0.0, 6.0)
)  # fmt: skip
@hypothesis_settings(deadline=None, max_examples=60)
def test_no_figure_falls_with_queries_or_spend(
    order: Order, queries: int, steady: float, hides: float
) -> None:
    here = accuracy(order, queries, steady, hides)
    assert here <= accuracy(order, queries + 1, steady, hides)
    assert here <= accuracy(order, queries, steady + 0.3, hides)
    assert here <= accuracy(order, queries, steady, hides + 0.3)
    assert 0.0 <= here <= 0.95, "no copy is taken to be better than the network"


def test_a_figure_has_its_baseline_its_distance_and_its_assumptions() -> None:
    found = copy_figure(
        SHA,
        SIZES,
        replace(SETTINGS, light=replace(SETTINGS.light, disguise=FRESH_ORDER)),
        1,
        table=TABLE,
    )
    assert found.accuracy is not None
    assert found.classes_alone == pytest.approx(0.01)
    assert found.distance == pytest.approx(found.accuracy - 0.01)
    assert found.as_json()["distance"] == found.distance
    assert any("no quantum memory" in each for each in found.assumptions)
    assert "classes alone 1.0%" in found.in_words()


def test_where_nothing_was_measured_or_seen_there_is_a_reason_and_no_figure() -> None:
    other = copy_figure("1" * 64, SIZES, SETTINGS, 5, name="mine", table=TABLE)
    assert (other.accuracy, other.distance) == (None, None)
    assert other.reason is not None
    assert "'mine' was measured" in other.reason
    unseen = replace(SETTINGS, sampling=Sampling.MEASURED)
    assert copy_figure(SHA, SIZES, unseen, 5, table=TABLE).reason == UNWATCHED
    with pytest.raises(SettingError, match="queries"):
        copy_figure(SHA, SIZES, SETTINGS, 0, table=TABLE)


def test_most_queries_is_the_last_that_keeps_the_limit() -> None:
    def after(queries: int) -> CopyFigure:
        return figure_of(SHA, Order.FRESH, queries, QuerySpend(0.25, 0.25), table=TABLE)

    for limit in (0.1, 0.45, 0.52, 0.9):
        most = most_queries(after, limit, 40)
        assert most == sum((after(count).accuracy or 1.0) <= limit for count in range(1, 41))
    assert most_queries(after, 0.99, 40) == 40
