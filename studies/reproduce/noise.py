"""Leakage against technical noise and loss: the journal's panel, and the effect of trust."""

from __future__ import annotations

import numpy as np

from labctl.studies.reproduce import authors
from labctl.studies.reproduce.authors import INPUTS, JOURNAL_GAIN, JOURNAL_PHOTONS, Setting
from labctl.studies.reproduce.figure import (
    Axis,
    ColourMap,
    Difference,
    Mark,
    Origin,
    Panel,
    Reproduction,
    Series,
)
from labctl.studies.reproduce.leakage import HOLEVO, REAL, WEIGHTS, in_words
from labctl.studies.reproduce.ours import BEST, OPERATING_F, WORST, leakage_at, operating_settings

_POINT = authors.REALISTIC_NOISE_SNU
_NOISES = tuple(float(noise) for noise in np.geomspace(1e-5, authors.JOURNAL_NOISES_SNU[1], 81))
# Points of a side of the map, and its lines of equal leakage in bit.
_GRID = 61
_MAP_NOISES = tuple(float(noise) for noise in np.linspace(*authors.JOURNAL_NOISES_SNU, _GRID))
_MAP_LOSSES_DB = tuple(float(loss) for loss in np.linspace(*authors.JOURNAL_LOSSES_DB, _GRID))
_LEVELS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
_JOURNAL = Setting(JOURNAL_PHOTONS, JOURNAL_GAIN)


def against_noise() -> Reproduction:
    """Return the journal's panel over loss and noise, and cuts with the noise in either hand."""
    at_point = authors.journal_weights_bits(0.0, _POINT)
    none = leakage_at(_JOURNAL).weights_bits_per_real
    return Reproduction(
        name="technical-noise",
        title="Leakage against technical noise",
        caption=(
            "Weights' leakage of one query and the link's technical noise at the server, in "
            "shot-noise units. (a) The journal's panel by its scripts' own formula: noise and loss "
            f"untrusted, the bound given √η, light of μ = {JOURNAL_PHOTONS:g} (1 + noise)/η, "
            f"G = {JOURNAL_GAIN:g}, {authors.LOSS_INPUTS} neurons. (b) Without loss: the same, and "
            "what the same setting and ours at "
            f"F = {OPERATING_F:g} leak if the noise is untrusted, as in the journal, or trusted "
            "(in the server's calibrated receiver)."
        ),
        footnote=(
            f"At the journal's realistic noise of {_POINT:g} SNU and no loss: {at_point:.4f} bit "
            f"per real weight by its scripts; {none:.4f} without technical noise or with trusted."
        ),
        panels=(_panel(), _cuts()),
        differences=_differences(),
        assumptions=(*HOLEVO, *in_words(WORST), *in_words(BEST), "(b) no loss"),
    )


def _panel() -> Panel:
    values = tuple(
        tuple(authors.journal_weights_bits(loss_db, noise) for loss_db in _MAP_LOSSES_DB)
        for noise in _MAP_NOISES
    )
    return Panel(
        "theirs, journal",
        Axis("channel loss (dB)", limits=authors.JOURNAL_LOSSES_DB),
        Axis("technical noise (SNU)", limits=authors.JOURNAL_NOISES_SNU),
        (),
        legend="none",
        colours=ColourMap(WEIGHTS, Origin.THEIRS, _MAP_LOSSES_DB, _MAP_NOISES, values, _LEVELS),
        rows=(Mark(_POINT, "realistic noise", 0.45),),
    )


def _cuts() -> Panel:
    theirs = Series(
        f"theirs, {_JOURNAL.label}, untrusted",
        Origin.THEIRS,
        _NOISES,
        tuple(authors.journal_weights_bits(0.0, noise) for noise in _NOISES),
    )
    trusted = Series(
        f"{_JOURNAL.label}, trusted",
        Origin.CORRECTED,
        _NOISES,
        tuple(_bits(_JOURNAL, noise, trusted=True) for noise in _NOISES),
        variant=1,
    )
    ours = [
        Series(
            f"ours, {setting.label}, {'trusted' if trust else 'untrusted'}",
            Origin.OURS,
            _NOISES,
            tuple(_bits(setting, noise, trusted=trust) for noise in _NOISES),
            variant=2 * index + trust,
        )
        for index, setting in enumerate(operating_settings())
        for trust in (False, True)
    ]
    return Panel(
        "no loss",
        Axis("technical noise (SNU)", True, (_NOISES[0], _NOISES[-1])),
        Axis(WEIGHTS, True, (1e-3, 2.0)),
        (theirs, trusted, *ours),
        (Mark(_POINT, f"{_POINT:g} SNU"),),
    )


def _bits(setting: Setting, noise: float, *, trusted: bool) -> float:
    assumptions = BEST if trusted else WORST
    found = leakage_at(setting, technical_noise=noise, assumptions=assumptions)
    return found.weights_bits_per_real


def _differences() -> tuple[Difference, ...]:
    where = f"0 dB, {_POINT:g} SNU, {_JOURNAL.label}"
    theirs = authors.journal_weights_bits(0.0, _POINT)
    whole = authors.journal_weights_bits(0.0, _POINT, INPUTS)
    found = [
        Difference("journal: 748 neurons instead of 784", where, theirs, whole, REAL),
        Difference(
            "journal: light times 1 + noise, or not",
            where,
            whole,
            _bits(_JOURNAL, _POINT, trusted=False),
            REAL,
        ),
        Difference(
            "journal: technical noise untrusted, or trusted",
            where,
            theirs,
            _bits(_JOURNAL, _POINT, trusted=True),
            REAL,
        ),
    ]
    for loss_db in (1.0, 3.0):
        found.append(
            Difference(
                "journal: √η in place of η",
                f"{loss_db:g} dB, {_POINT:g} SNU",
                authors.journal_weights_bits(loss_db, _POINT),
                authors.journal_weights_bits(loss_db, _POINT, power=1.0),
                REAL,
            )
        )
    return (
        *found,
        *(
            Difference(
                f"ours, technical noise of {_POINT:g} SNU: untrusted (first), trusted",
                setting.label,
                _bits(setting, _POINT, trusted=False),
                _bits(setting, _POINT, trusted=True),
                REAL,
            )
            for setting in operating_settings()
        ),
    )
