"""A mismatched clone and what does not help: phases per row, and a gain that is dithered.

The client's rotation collects b = d^dagger w of a row w and returns w + kappa b d, kick apart. With
d = c exp(i p) that is kappa (c^dagger w) c for any phase p. A dither gives each row a kappa of
its own. Its mean stays, so that the rows add up to the same mean; what is left of it is one more
noise along c, which the scatter shows. Rows are drawn one by one, as a session has them.
"""

from __future__ import annotations

import math

import numpy as np

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.errors import SettingError
from labctl.protocols.client import directions_of
from labctl.protocols.labels.reading import Detection, Reading
from labctl.studies.attacks.label_joint import HomodyneJoint, unit_of
from labctl.studies.attacks.label_reading import DIMENSIONS, LabelReader
from labctl.studies.attacks.wishart import Complexes
from labctl.studies.countermeasures.drawn_rows import circular


def read_mismatched_rows(
    images: LabelledImages,
    templates: LabelledImages,
    light: Complexes,
    reading: Reading,
    *,
    random_phases: bool = False,
    dither: float = 0.0,
    seed: int,
    dimensions: int = DIMENSIONS,
) -> float:
    """Return the share of labels that a homodyning server reads, rows drawn one by one.

    light: X + iP (rows, n) in SNU at the clone. `reading`: whole rows sent once, with the mean
    mismatch, which the reader knows. `random_phases`: the rotation takes a different phase for
    each row. `dither`: standard deviation of each row's relative gain, which the reader is not
    given. Templates must not contain the images. Raises SettingError.
    """
    whole = reading.repeats == 1 and reading.block_modes is None
    if reading.receiver is not Detection.HOMODYNE or reading.mismatch.matched or not whole:
        raise SettingError("reading", reading, "homodyne of whole mismatched rows, sent once")
    checks.below("dither", dither, 0.0, 1.0)
    reader = LabelReader(templates.images, templates.labels, reading, dimensions, light)
    view = reader.views[0]
    assert isinstance(view, HomodyneJoint)
    assert view.phases is not None
    assert view.turned is not None
    generator, rows = np.random.default_rng(seed), reading.rows
    turn = np.exp(1j * reading.mismatch.phase_rad)
    scatters, weighted = [], []
    for direction in directions_of(images.images, None):
        phases = np.exp(2j * np.pi * generator.random(rows) * random_phases)
        collected = phases.conj() * (light @ direction.conj())
        kappa = reading.mismatch.kappa + dither * generator.standard_normal(rows) * turn
        # Both quadratures of a kick have the spike's variance each, in units of homodyne's vacuum.
        kick = math.sqrt(2.0 * reading.spike) * circular(generator, (rows,))
        returned = unit_of(reading) * kappa * collected + kick
        along = np.outer(view.phases * returned * phases, direction @ view.plain.basis).real
        read = generator.standard_normal(along.shape, np.float32) + along.astype(np.float32)
        scatters.append(read.T @ read)
        weighted.append(view.turned.T @ read)
    features = view.features(np.stack(scatters), np.stack(weighted).astype(np.complex64))
    return float(np.mean(reader.read([features]) == images.labels))
