"""Returned rows drawn one by one, where kicks have no law that `wishart` knows.

Kicks are given row by row, as complex numbers along one or more directions; a label reader sees
the scatter of all rows as it would see that of a real session.
"""

from __future__ import annotations

import math

import numpy as np

from labctl.studies.attacks.label_reading import LabelReader
from labctl.studies.attacks.label_views import HeterodyneView, HomodyneView
from labctl.studies.attacks.wishart import Complexes, Reals


def circular(generator: np.random.Generator, shape: tuple[int, ...]) -> Complexes:
    """Return circular normal numbers of E |z|^2 = 1."""
    halves = generator.standard_normal((*shape, 2), np.float32) * np.float32(math.sqrt(0.5))
    return halves.view(np.complex64)[..., 0]


def features_of_rows(
    reader: LabelReader, generator: np.random.Generator, kicks: Complexes, directions: Complexes
) -> Reals:
    """Return features (1, F) of rows of white noise of unit variance with kicks along directions.

    kicks: (rows, K), E |k|^2 being the spike; directions: (K, n) of unit norm. The reader takes
    whole rows by heterodyne, or by homodyne of one quadrature.
    """
    view = reader.views[0]
    assert isinstance(view, HeterodyneView | HomodyneView)
    along = kicks @ (directions @ view.basis.conj())
    if isinstance(view, HeterodyneView):
        read = circular(generator, along.shape) + along
        return view.features(np.asarray(read.T @ read.conj(), np.complex64)[None])
    # Both quadratures of a kick have the spike's variance each, in units of homodyne's vacuum.
    real = generator.standard_normal(along.shape, np.float32) + math.sqrt(2.0) * along.real
    return view.features(np.asarray(real.T @ real, np.float32)[None])
