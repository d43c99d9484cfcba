"""The hospital's table: divided the same way everywhere, encoded by its training part alone."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.data import breast_cancer
from labctl.data.breast_cancer import Encoding, load_table, split
from labctl.errors import DatasetError, SettingError, UsageError


def test_the_table_is_the_one_that_the_measurements_were_made_on() -> None:
    table = load_table()
    assert table.values.shape == (569, 30)
    assert np.bincount(table.labels).tolist() == [212, 357]
    assert table.feature_names[0] == "mean radius"
    content = np.ascontiguousarray(table.values, "<f8").tobytes() + table.labels.tobytes()
    assert hashlib.sha256(content).hexdigest() == (
        "3a54a12ffd3db348fbe319a9056329cde28da5b2e5ecc26ff7fb9f54aa7cc9f4"
    )


@pytest.mark.parametrize("number", [0, 7])
def test_a_division_puts_each_patient_in_one_part_and_keeps_the_shares(number: int) -> None:
    table, parts = load_table(), split(number)
    everybody = np.concatenate([parts.train_patients, parts.test_patients])
    assert np.array_equal(np.sort(everybody), np.arange(569))
    assert np.bincount(parts.train.labels).tolist() == [148, 250]
    assert np.bincount(parts.test.labels).tolist() == [64, 107]
    assert np.array_equal(parts.test.labels, table.labels[parts.test_patients])
    again = parts.encoding.inputs(table.values[parts.test_patients])
    assert np.array_equal(parts.test.images, again)


def test_a_division_is_the_same_on_every_machine_and_another_number_gives_another() -> None:
    assert split(0).test_patients[:5].tolist() == [470, 120, 14, 159, 359]
    assert not np.array_equal(split(0).test_patients, split(1).test_patients)


def test_patients_to_test_on_leave_no_mark_in_the_encoding() -> None:
    parts = split(3)
    train = load_table().values[parts.train_patients]
    assert np.array_equal(parts.encoding.mean, train.mean(axis=0))
    assert np.array_equal(parts.encoding.standard_deviation, train.std(axis=0))


def test_a_feature_rides_on_a_mode_of_its_own_and_can_be_read_back() -> None:
    parts, values = split(0), load_table().values
    inputs = parts.encoding.inputs(values)
    assert inputs.shape == (569, 60)
    assert inputs.dtype == np.float32
    assert (inputs.min(), inputs.max()) == (0.0, 1.0)
    assert not np.any(inputs[:, 0::2] * inputs[:, 1::2])
    z = (values - parts.encoding.mean) / parts.encoding.standard_deviation
    signed = inputs[:, 0::2] - inputs[:, 1::2]
    assert np.allclose(3.0 * signed, np.clip(z, -3.0, 3.0), atol=1e-6)


@settings(deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=2))
def test_a_patient_far_from_all_others_still_has_inputs_from_0_to_1(values: list[float]) -> None:
    inputs = Encoding(np.array([1.0, 2.0]), np.array([0.5, 4.0])).inputs(np.array([values]))
    assert inputs.shape == (1, 4)
    assert ((inputs >= 0.0) & (inputs <= 1.0)).all()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.ones((3, 4)), "shape (3, 4): must be (n, 2)"),
        (np.ones(2), "shape (2,): must be (n, 2)"),
        (np.array([[1.0, 2.0], [1.0, np.nan]]), "feature 1 of patient 1 is nan: must be finite"),
    ],
)
def test_values_that_cannot_be_encoded_are_named(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], problem: str
) -> None:
    with pytest.raises(DatasetError) as caught:
        Encoding(np.zeros(2), np.ones(2)).inputs(values)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.array([[1.0, 5.0], [2.0, 5.0]]), "feature 1 is the same for all 2 patients"),
        (np.array([[1.0, 5.0]]), "the same for all 1 patients"),
        (np.array([[1.0, np.inf], [2.0, 5.0]]), "feature 1 of patient 0 is inf"),
    ],
)
def test_patients_that_give_no_encoding_are_refused(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], problem: str
) -> None:
    with pytest.raises(DatasetError, match=problem):
        Encoding.of(values)


def test_a_division_that_is_none_is_refused() -> None:
    with pytest.raises(SettingError, match="0 or more"):
        split(-1)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    breast_cancer.load_table.cache_clear()
    with pytest.raises(UsageError, match=r"pip install 'labctl\[tasks\]'"):
        split(0)
