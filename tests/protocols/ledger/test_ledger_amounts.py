"""What a ledger adds up: exact sums, information instead of bits, and who an account is."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import SettingError, UsageError
from labctl.protocols.ledger.accounts import (
    Balance,
    input_account,
    weights_account,
)
from labctl.protocols.ledger.amounts import (
    Amounts,
    Meter,
    bits_of_information,
    information_of_bits,
    limits_of,
    not_above,
    units_of,
)

MODEL = "ab" * 32
BITS = Meter.WEIGHT_BITS

values = st.floats(0.0, 1e9)


@given(st.lists(values, max_size=20))
def test_sums_are_exact_and_give_back_all_that_was_added(parts: list[float]) -> None:
    total = Amounts()
    for part in parts:
        total += Amounts.of({BITS: part})
    assert total.unit(BITS) == sum(units_of("bits", part) for part in parts)
    for part in reversed(parts):
        total -= Amounts.of({BITS: part})
    assert total.unit(BITS) == 0


@given(values)
def test_a_charge_is_rounded_up_by_less_than_a_unit(value: float) -> None:
    exact = Fraction(repr(value)) * 10**12
    assert exact <= units_of("bits", value) < exact + 1


@given(st.one_of(values, st.floats(0.0, 1e-9)))
def test_a_limit_is_rounded_down_and_stays_as_it_is(value: float) -> None:
    limit = not_above("bits", value)
    assert Fraction(units_of("bits", limit)) <= Fraction(repr(value)) * 10**12
    # Numbers above 9,007 are further apart than units: off by one of them at most.
    assert value - limit < 1e-12 + 3.0 * math.ulp(value)
    assert not_above("bits", limit) == limit


def test_no_charge_fits_a_budget_that_is_a_little_less() -> None:
    """One charge of 1e-12 was granted for a budget of half of it, rounded up."""
    balance = Balance("x", limits=Amounts.of(limits_of({BITS: 5e-13})))
    assert balance.fitting(Amounts.of({BITS: 1e-12})) == 0
    third = Balance("x", limits=Amounts.of(limits_of({BITS: 1.0 / 3.0})))
    assert third.fitting(Amounts.of({BITS: 0.333333333334})) == 0
    assert third.fitting(Amounts.of({BITS: 0.333333333333})) == 1


@pytest.mark.parametrize("value", [-1e-12, math.nan, math.inf, 1.1e12])
def test_what_cannot_be_counted_is_refused(value: float) -> None:
    with pytest.raises(SettingError, match="bits_per_weight"):
        Amounts.of({BITS: value})


def test_the_most_that_can_be_counted_is_counted() -> None:
    assert units_of("photons", 1e12) == 10**24
    with pytest.raises(SettingError, match="photons"):
        units_of("photons", math.nextafter(1e12, math.inf))


def test_amounts_are_read_as_numbers_and_a_missing_meter_is_zero() -> None:
    amounts = Amounts.of({Meter.ROWS: 3.0, BITS: 0.25})
    assert amounts.unit(BITS) == 250_000_000_000
    assert (amounts.value(BITS), amounts.value(Meter.ROWS), amounts.value(Meter.QUERIES)) == (
        0.25,
        3.0,
        0.0,
    )
    assert list(amounts.values().items()) == [("bits_per_weight", 0.25), ("rows", 3.0)]
    assert Amounts().values() == {}


def test_sums_and_differences_go_meter_by_meter() -> None:
    one, other = Amounts.of({BITS: 0.5, Meter.ROWS: 3.0}), Amounts.of({BITS: 0.25})
    assert (one + other).values() == {"bits_per_weight": 0.75, "rows": 3.0}
    assert (other - one).values() == {"bits_per_weight": -0.25, "rows": -3.0}


@pytest.mark.parametrize(("bits", "information"), [(0.0, 0.0), (0.5, 1.0), (1.0, 3.0), (2.0, 15.0)])
def test_information_of_whole_and_half_bits(bits: float, information: float) -> None:
    assert information_of_bits(bits) == pytest.approx(information, rel=1e-12)
    assert bits_of_information(information) == pytest.approx(bits, rel=1e-12)


def test_people_read_information_as_bits_and_all_else_as_it_is() -> None:
    information = {each for each in Meter if each.value.startswith("information_")}
    assert len(information) == 3
    for meter in Meter:
        assert meter.is_information == (meter in information)
        assert meter.words.startswith("bit per symbol (") == (meter in information)
        assert meter.shown(3.0) == pytest.approx(1.0 if meter in information else 3.0)
    # One without words is called by its name.
    assert (Meter.ROWS.words, Meter.QUERIES.words) == ("rows", "queries")


@given(st.floats(1e-9, 8.0))
def test_information_and_bits_are_inverse(bits: float) -> None:
    assert bits_of_information(information_of_bits(bits)) == pytest.approx(bits, rel=1e-9)


@given(st.floats(1e-6, 4.0), st.integers(1, 1000))
def test_repeats_tell_at_most_the_sum_of_single_sends(bits: float, repeats: int) -> None:
    together = bits_of_information(repeats * information_of_bits(bits))
    assert bits * (1 - 1e-12) <= together <= repeats * bits * (1 + 1e-12)


def test_repeats_are_rows_of_the_journal_formula() -> None:
    from labctl.protocols.leakage import data_bits_journal

    one, ten = (data_bits_journal(1.3, 392, rows) for rows in (784, 7840))
    assert bits_of_information(10 * information_of_bits(one)) == pytest.approx(ten)


def test_fifty_queries_fit_a_budget_for_fifty() -> None:
    each = Amounts.of({BITS: 0.0437, Meter.QUERIES: 1})
    balance = Balance("x", limits=Amounts.of({BITS: 2.185}))
    assert balance.fitting(each) == 50
    for _ in range(50):
        balance.refuse_beyond(each)
        balance = Balance("x", balance.spent + each, limits=balance.limits)
    with pytest.raises(UsageError, match="0 more such queries fit"):
        balance.refuse_beyond(each)


def test_a_refusal_names_all_that_decides() -> None:
    balance = Balance(
        weights_account("alice", MODEL),
        Amounts.of({BITS: 0.5}),
        Amounts.of({BITS: 0.25}),
        Amounts.of({BITS: 1.0}),
    )
    asked = Amounts.of({BITS: 0.8, Meter.QUERIES: 8})
    with pytest.raises(UsageError) as refusal:
        balance.refuse_beyond(asked)
    assert str(refusal.value) == (
        "budget of client alice on model abababababab: 0.5 spent, 0.25 reserved, 0.8 asked for, "
        "of 1 bit per real weight allowed; 2 more such queries fit"
    )


def test_a_refusal_for_data_speaks_of_bits_per_symbol() -> None:
    meter = Meter.INFORMATION_QUANTUM
    limits = Amounts.of({meter: information_of_bits(0.5)})
    with pytest.raises(UsageError, match=r"1 asked for, of 0\.5 bit per symbol \(quantum limit\)"):
        Balance("f" * 64, limits=limits).refuse_beyond(
            Amounts.of({meter: information_of_bits(1.0)})
        )


def test_an_overdrawn_account_refuses_even_what_costs_nothing() -> None:
    balance = Balance("x", Amounts.of({BITS: 2.0}), limits=Amounts.of({BITS: 1.0}))
    assert balance.overdrawn
    assert balance.fitting(Amounts.of({BITS: 0.0})) == 0
    with pytest.raises(UsageError, match="2 spent"):
        balance.refuse_beyond(Amounts.of({Meter.QUERIES: 1}))


def test_without_limits_anything_fits() -> None:
    assert Balance("x").fitting(Amounts.of({BITS: 1e6})) is None
    Balance("x").refuse_beyond(Amounts.of({BITS: 1e6}))


@pytest.mark.parametrize("client", ["", "any", "a/b", "-x", "a b", "x" * 65, "a\n"])
def test_a_name_that_is_no_account_is_refused(client: str) -> None:
    with pytest.raises(SettingError, match="client"):
        weights_account(client, MODEL)


@pytest.mark.parametrize("model", ["", "AB" * 32, "ab" * 31])
def test_a_model_is_named_by_its_whole_digest(model: str) -> None:
    with pytest.raises(SettingError, match="SHA-256"):
        weights_account("alice", model)


def image(seed: int = 1) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).random(784, dtype=np.float32)


def test_an_input_is_what_is_sent_of_it_whatever_its_scale() -> None:
    name = input_account(image(), b"secret")
    assert input_account(np.float32(4.0) * image(), b"secret") == name
    zeros = np.where(image() < 0.5, np.float32(0.0), image())
    negative = np.where(image() < 0.5, np.float32(-0.0), image())
    assert input_account(zeros, b"secret") == input_account(negative, b"secret")


def test_another_secret_or_another_value_is_another_account() -> None:
    name = input_account(image(), b"secret")
    near = image()
    near[0] += np.float32(1e-3)
    assert len({name, input_account(image(), b"other"), input_account(near, b"secret")}) == 3


def test_an_input_of_other_than_finite_values_is_refused() -> None:
    broken = image()
    broken[3] = np.nan
    with pytest.raises(SettingError, match="finite"):
        input_account(broken, b"secret")


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(list(Meter)), st.floats(0.0, 10.0), min_size=1),
    st.dictionaries(st.sampled_from(list(Meter)), st.floats(0.0, 10.0)),
)
def test_what_is_said_to_fit_fits_and_no_more(
    each: dict[Meter, float], limits: dict[Meter, float]
) -> None:
    cost, balance = Amounts.of(each), Balance("x", limits=Amounts.of(limits))
    count = balance.fitting(cost)
    if count is None:
        return
    balance.refuse_beyond(Amounts({name: count * units for name, units in cost.units.items()}))
    with pytest.raises(UsageError):
        balance.refuse_beyond(
            Amounts({name: (count + 1) * units for name, units in cost.units.items()})
        )
