"""Breast cancer Wisconsin (diagnostic): 569 patients, 30 numbers each, benign or malignant.

The table is the one that scikit-learn ships (extra `tasks`); Wolberg, Mangasarian, Street, UCI
machine learning repository, https://doi.org/10.24432/C5DW2B, CC BY 4.0. Light carries what the
client encodes: a feature less its mean, in units of three standard deviations and cut at 1, its
positive part as one input and its negative part as the next. So each feature rides on a mode of
its own. Means and standard deviations are those of the training part, and public.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.errors import DatasetError, UsageError

CLASS_NAMES = ("malignant", "benign")
# Share of the patients of each class that test.
TEST_SHARE = 0.3
# Values beyond three standard deviations are cut to that.
_RANGE = 3.0
# Of the data set as it is published; anything else is another file.
_PATIENTS, _FEATURES = 569, 30

Reals = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Table:
    """The raw table: values (569, 30) in the units of their names, labels (569,) uint8."""

    values: Reals
    labels: NDArray[np.uint8]
    feature_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Encoding:
    """How a client turns raw features into inputs: mean and standard deviation (features,)."""

    mean: Reals
    standard_deviation: Reals

    @classmethod
    def of(cls, values: Reals) -> Encoding:
        """Return the encoding for patients (n, features), n at least 2, like these.

        Raises DatasetError for values that are not finite, or a feature that is the same for all.
        """
        _require_finite(values)
        spread = values.std(axis=0) if len(values) > 1 else np.zeros(values.shape[1])
        constant = np.flatnonzero(~(spread > 0.0))
        if constant.size:
            raise DatasetError(
                f"feature {constant[0]} is the same for all {len(values)} patients: must differ"
            )
        return cls(values.mean(axis=0), spread)

    def inputs(self, values: Reals) -> NDArray[np.float32]:
        """Return inputs (n, 2 features) in [0, 1] of raw values (n, features).

        Input 2k is the positive part of feature k, 2k + 1 the negative; one of them is 0. Raises
        DatasetError for another number of features, or values that are not finite.
        """
        if values.ndim != 2 or values.shape[1] != len(self.mean):
            raise DatasetError(f"values of shape {values.shape}: must be (n, {len(self.mean)})")
        _require_finite(values)
        scaled = (values - self.mean) / (_RANGE * self.standard_deviation)
        parts = np.clip(np.stack([scaled, -scaled], axis=2), 0.0, 1.0)
        return parts.reshape(len(values), -1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Split:
    """One division of the patients: encoded parts, the encoding, and who is in which part."""

    train: LabelledImages
    test: LabelledImages
    encoding: Encoding
    train_patients: NDArray[np.intp]
    test_patients: NDArray[np.intp]


@lru_cache(maxsize=1)
def load_table() -> Table:
    """Return the table; raises UsageError where scikit-learn is not installed."""
    found: Any = _datasets().load_breast_cancer()
    values = np.asarray(found.data, np.float64)
    if values.shape != (_PATIENTS, _FEATURES) or tuple(found.target_names) != CLASS_NAMES:
        raise DatasetError(
            f"scikit-learn's table has shape {values.shape} and classes "
            f"{', '.join(map(str, found.target_names))}; must be ({_PATIENTS}, {_FEATURES}) and "
            + ", ".join(CLASS_NAMES)
        )
    values.setflags(write=False)
    labels = np.asarray(found.target, np.uint8)
    labels.setflags(write=False)
    return Table(values, labels, tuple(str(name) for name in found.feature_names))


def split(number: int = 0) -> Split:
    """Divide the patients at random: 30 % of each class to test on, in an order drawn for them.

    number: 0 or more; each gives another division, the same on every machine. Raises
    SettingError, and UsageError where scikit-learn is not installed.
    """
    checks.at_least("split", number, 0)
    table = load_table()
    random = np.random.default_rng([number, _PATIENTS])
    test = random.permutation(np.concatenate(list(_drawn(table.labels, random))))
    train = np.setdiff1d(np.arange(_PATIENTS), test)
    encoding = Encoding.of(table.values[train])
    parts = [
        LabelledImages(encoding.inputs(table.values[who]), table.labels[who])
        for who in (train, test)
    ]
    return Split(parts[0], parts[1], encoding, train, test)


def _drawn(labels: NDArray[np.uint8], random: np.random.Generator) -> Iterable[NDArray[np.intp]]:
    """Yield 30 % of the patients of each class."""
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        yield random.permutation(members)[: round(TEST_SHARE * len(members))]


def _require_finite(values: Reals) -> None:
    broken = np.argwhere(~np.isfinite(values))
    if broken.size:
        patient, feature = broken[0]
        raise DatasetError(
            f"feature {feature} of patient {patient} is {values[patient, feature]}: must be finite"
        )


def _datasets() -> Any:
    try:
        return import_module("sklearn.datasets")
    except ImportError as problem:
        raise UsageError(
            f"the task breast-cancer needs scikit-learn, which cannot be imported ({problem}): "
            "pip install 'labctl[tasks]'"
        ) from problem
