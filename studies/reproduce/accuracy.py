"""Accuracy against F, and over the plane of both leakages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from labctl.protocols.leakage import LayerShape, Leakage, data_bits_first, data_bits_journal
from labctl.studies.reproduce import authors
from labctl.studies.reproduce.authors import MODES, ROWS, Claim, Setting, photons_for
from labctl.studies.reproduce.figure import Axis, Difference, Origin, Panel, Reproduction, Series
from labctl.studies.reproduce.ours import (
    OPERATING_F,
    PAPER_LAYERS,
    WORST,
    Measured,
    gain_of_data_bits,
    leakage_at,
    most_data_bits,
)

# Accuracies of which the light is given.
_LEVELS = (0.5, 0.8, 0.9, 0.95)
_LEVELS_OF_ALL = _LEVELS[1:]
# G - 1 from 10^-2.2 to 2.2, the range of their maps.
_GAINS = tuple(float(1.0 + step) for step in np.geomspace(10.0**-2.2, 2.2, 60))
_MODE_LEVEL = (
    "ours: mode level, no loss, no technical noise, ideal receivers: accuracy depends on F alone",
    "ours: MNIST test images, pixels 0 to 1, every layer's input scaled to unit norm",
    "theirs: 10,000 validation images kept back from the training set, pixels -1 to 1",
)


def against_f(measured: Sequence[Measured]) -> Reproduction:
    """Return accuracy against F: their simulation and fit, and our networks."""
    series = (*_their_accuracy(), *_our_accuracy(measured))
    x = Axis("physical scaling parameter F = 2μ/D(G) (dB)", limits=(-20.0, 20.0))
    names = ", ".join(one.network.name for one in measured)
    return Reproduction(
        name="accuracy",
        title="Accuracy against F",
        caption=(
            "Accuracy on MNIST against the ratio F of signal to noise of one inner product, whole "
            f"(a) and its upper end (b). Theirs: means of their simulated values, their logistic "
            f"fit over F, and the same fit as their maps evaluate it, at √(μ/D) = √(F/2). Ours: "
            f"{names}, measured; bars are standard uncertainties."
        ),
        footnote=_accuracy_footnote(measured),
        panels=(
            Panel(
                "whole",
                x,
                Axis("accuracy (%)", limits=(0.0, 100.0)),
                series,
                legend="lower right",
            ),
            Panel(
                "upper end",
                Axis(x.label, limits=(-10.0, 20.0)),
                Axis("accuracy (%)", limits=(85.0, 99.5)),
                series,
                legend="none",
            ),
        ),
        differences=(*_logistic_differences(), *_network_differences(measured)),
        assumptions=_MODE_LEVEL,
    )


def _their_accuracy() -> tuple[Series, ...]:
    logistic = authors.fitted_logistic()
    means = list(zip(authors.PUBLISHED_LOG_F, authors.PUBLISHED_PERCENT, strict=True))[10::2]
    f_db = tuple(float(value) for value in np.linspace(-20.0, 20.0, 161))
    fit = tuple(100.0 * logistic.accuracy(10.0 ** (db / 10.0)) for db in f_db)
    maps = tuple(100.0 * logistic.accuracy(math.sqrt(10.0 ** (db / 10.0) / 2.0)) for db in f_db)
    return (
        Series(
            "theirs, simulated",
            Origin.THEIRS,
            tuple(10.0 * log_f for log_f, _ in means),
            tuple(percent for _, percent in means),
            points=True,
        ),
        Series("theirs, logistic fit", Origin.THEIRS, f_db, fit, variant=1),
        Series("theirs, as in their maps", Origin.THEIRS, f_db, maps, variant=2),
    )


def _our_accuracy(measured: Sequence[Measured]) -> tuple[Series, ...]:
    return tuple(
        Series(
            one.label,
            Origin.OURS,
            tuple(10.0 * math.log10(point.signal_to_noise) for point in one.curve.points),
            tuple(100.0 * point.accuracy for point in one.curve.points),
            y_error=tuple(100.0 * point.standard_uncertainty for point in one.curve.points),
            points=True,
            variant=index,
        )
        for index, one in enumerate(measured)
    )


def _accuracy_footnote(measured: Sequence[Measured]) -> str:
    maps = 100.0 * authors.map_accuracy(authors.BRIGHT)
    read = 100.0 * authors.published_accuracy(authors.BRIGHT.signal_to_noise)
    ours = ", ".join(
        f"{one.network.name} {100.0 * one.curve.accuracy(OPERATING_F):.1f} %" for one in measured
    )
    simulated = 100.0 * authors.published_accuracy(OPERATING_F)
    return (
        f"Their maps evaluate the fit at √(μ/D), not at F: {maps:.1f} % instead of {read:.1f} % at "
        f"{authors.BRIGHT.label} (F = {authors.BRIGHT.signal_to_noise:g}). "
        f"At F = {OPERATING_F:g} their simulation finds {simulated:.1f} %; ours: {ours}."
    )


def _logistic_differences() -> tuple[Difference, ...]:
    """Return what each step from their maps to their own simulated values changes."""
    logistic, found = authors.fitted_logistic(), []
    for setting in (*authors.SETTINGS, Setting(photons_for(0.22, 2.0), 2.0)):
        f, where = setting.signal_to_noise, f"{setting.label} (F = {setting.signal_to_noise:.3g})"
        steps = (
            ("logistic at √SNR instead of SNR", math.sqrt(f / 2.0), f / 2.0),
            ("SNR = μ/D instead of F = 2μ/D, as V = 2μ + 1 has it", f / 2.0, f),
        )
        for what, published, here in steps:
            values = (100.0 * logistic.accuracy(published), 100.0 * logistic.accuracy(here))
            found.append(Difference(what, where, *values, "%"))
        read = 100.0 * authors.published_accuracy(f)
        what = "logistic instead of the simulated values that it is fitted to"
        found.append(Difference(what, where, 100.0 * logistic.accuracy(f), read, "%"))
        maps = 100.0 * authors.map_accuracy(setting)
        found.append(Difference("the three together", where, maps, read, "%"))
    return tuple(found)


def _network_differences(measured: Sequence[Measured]) -> tuple[Difference, ...]:
    return tuple(
        Difference(
            f"network, training and images: theirs (no noise in training), {one.network.name}",
            f"F = {f:.3g}",
            100.0 * authors.published_accuracy(f),
            100.0 * one.curve.accuracy(f),
            "%",
        )
        for one in measured
        for f in (OPERATING_F, 1.0, authors.DIM.signal_to_noise, authors.BRIGHT.signal_to_noise)
    )


def over_leakage(measured: Sequence[Measured]) -> Reproduction:
    """Return lines of equal accuracy over the leakage of weights and of data."""
    x = Axis("weights' leakage $I_w$ (bit per real weight)", True, (3e-4, 0.3))
    return Reproduction(
        name="leakage-plane",
        title="Accuracy over weight and data leakage",
        caption=(
            "Lines of equal accuracy over the leakage of one query, G running along each line. "
            "(a) Their data leakage (first version): the lines of their maps, logistic at √(μ/D), "
            "and those of their simulated values at F = 2μ/D. (b) The journal's data leakage with "
            f"the true M/n ({ROWS}/{MODES} for theirs): their simulated values and our networks. "
            "The abstract's point is at the bits per weight symbol that it claims, and at half of "
            "it: a symbol of the first scripts is a mode of two weights. The journal's scripts "
            "count per real weight. Filled points are ours at the journal's accuracy and data "
            "leakage."
        ),
        footnote=_plane_footnote(measured),
        panels=(
            Panel(
                "as published",
                x,
                Axis("data leakage $I_x$, first version (bit per symbol)", True, (1e-7, 0.2)),
                (
                    *_maps_lines(),
                    *_corrected_lines(_LEVELS, _first),
                    *_their_settings(),
                    _claimed(0),
                ),
            ),
            Panel(
                "journal form, true M/n",
                x,
                Axis("data leakage $I_x$, journal form (bit per symbol)", True, (1e-5, 8.0)),
                (
                    *_corrected_lines(_LEVELS_OF_ALL, _journal),
                    *_our_lines(measured),
                    *_our_points(measured),
                    _claimed(1),
                ),
            ),
        ),
        differences=_plane_differences(measured),
        assumptions=(*_MODE_LEVEL, *WORST.sentences()),
    )


def _first(leakage: Leakage) -> float:
    return leakage.data_bits_first


def _journal(leakage: Leakage) -> float:
    return leakage.data_bits_journal


def _line(
    label: str,
    origin: Origin,
    level: float,
    photons: Callable[[float], float],
    data_bits: Callable[[Leakage], float],
    variant: int,
    below: bool,
    layers: tuple[LayerShape, ...],
) -> Series:
    """Return one line of equal accuracy: the photons that a gain needs, and what that leaks."""
    found = [leakage_at(Setting(photons(gain), gain), layers=layers) for gain in _GAINS]
    return Series(
        label,
        origin,
        tuple(leakage.weights_bits_per_real for leakage in found),
        tuple(data_bits(leakage) for leakage in found),
        variant=variant,
        tag=f"{100.0 * level:g} %",
        tag_below=below,
    )


def _maps_lines() -> list[Series]:
    return [
        _line(
            "" if index else "theirs, as in their maps",
            Origin.THEIRS,
            level,
            _map_photons(level),
            _first,
            2,
            True,
            PAPER_LAYERS,
        )
        for index, level in enumerate(_LEVELS)
    ]


def _map_photons(level: float) -> Callable[[float], float]:
    return lambda gain: authors.map_photons(level, gain)


def _lines_at(
    label: str,
    origin: Origin,
    needed: Sequence[tuple[float, float]],
    data_bits: Callable[[Leakage], float],
    variant: int,
    below: bool = False,
    layers: tuple[LayerShape, ...] = PAPER_LAYERS,
) -> list[Series]:
    """Return lines for pairs of accuracy and the F that it needs, except for those out of reach."""
    lines: list[Series] = []
    for level, f in needed:
        if math.isfinite(f):
            name = "" if lines else label
            photons = _photons_at(f)
            lines.append(_line(name, origin, level, photons, data_bits, variant, below, layers))
    return lines


def _photons_at(f: float) -> Callable[[float], float]:
    return lambda gain: photons_for(f, gain)


def _corrected_lines(
    levels: Sequence[float], data_bits: Callable[[Leakage], float]
) -> list[Series]:
    needed = [(level, authors.published_f(level)) for level in levels]
    return _lines_at("theirs, at F = 2μ/D", Origin.CORRECTED, needed, data_bits, 0)


def _our_lines(measured: Sequence[Measured]) -> list[Series]:
    lines: list[Series] = []
    for variant, one in enumerate(measured):
        needed = [(level, one.curve.needed(level).value) for level in _LEVELS_OF_ALL]
        # Ends alternate, so that the levels of neighbours keep apart.
        below = variant % 2 == 0
        lines += _lines_at(one.label, Origin.OURS, needed, _journal, variant, below, one.shapes)
    return lines


def _our_points(measured: Sequence[Measured]) -> list[Series]:
    """Return where each network has the journal's accuracy and data leakage."""
    data_bits = (authors.JOURNAL.data_bits,)
    variants = {one.network.name: variant for variant, one in enumerate(measured)}
    return [
        Series("", Origin.OURS, (bits,), data_bits, points=True, variant=variants[name])
        for name, bits in _reached(measured)
    ]


def _their_settings() -> list[Series]:
    return [
        Series(
            f"theirs, {setting.label}",
            Origin.THEIRS,
            (leakage_at(setting).weights_bits_per_real,),
            (data_bits_first(setting.gain, MODES),),
            points=True,
            variant=variant,
        )
        for variant, setting in enumerate(authors.SETTINGS)
    ]


def _claimed(journal: int) -> Series:
    claim, where = ((authors.ABSTRACT, "abstract"), (authors.JOURNAL, "journal"))[journal]
    weights = (claim.weights_bits,) if journal else (claim.weights_bits / 2.0, claim.weights_bits)
    return Series(
        f"paper, {where}: {100.0 * claim.accuracy:g} %",
        Origin.THEIRS,
        weights,
        (claim.data_bits,) * len(weights),
        points=True,
        variant=2,
    )


def _weights_at(f: float, claim: Claim, layers: tuple[LayerShape, ...] = PAPER_LAYERS) -> float:
    """Return bits per real weight at F where the data leak as much as is claimed."""
    gain = gain_of_data_bits(claim.data_bits, layers)
    setting = Setting(photons_for(f, gain), gain)
    return leakage_at(setting, layers=layers).weights_bits_per_real


def _reached(measured: Sequence[Measured]) -> list[tuple[str, float]]:
    """Return each network's bits per real weight at the journal's accuracy and data leakage.

    One that does not get the accuracy, or leaks less of the data at any gain, is left out.
    """
    found, claim = [], authors.JOURNAL
    for one in measured:
        needed = one.curve.needed(claim.accuracy).value
        if math.isfinite(needed) and claim.data_bits < most_data_bits(one.shapes):
            found.append((one.network.name, _weights_at(needed, claim, one.shapes)))
    return found


def _plane_footnote(measured: Sequence[Measured]) -> str:
    claim = authors.JOURNAL
    theirs = _weights_at(authors.published_f(claim.accuracy), claim)
    ours = "".join(f", {name} {bits:.4f}" for name, bits in _reached(measured))
    return (
        f"At {100.0 * claim.accuracy:g} % and {claim.data_bits:g} bit per data symbol (journal "
        f"form) the paper claims {claim.weights_bits:g} bit per real weight; "
        f"their simulated values give {theirs:.4f}{ours}. Lossless, no technical noise."
    )


def _plane_differences(measured: Sequence[Measured]) -> tuple[Difference, ...]:
    claim, level = authors.JOURNAL, authors.JOURNAL.accuracy
    where = f"{100.0 * level:g} %, {claim.data_bits:g} bit per data symbol (journal form, true M/n)"
    gain = gain_of_data_bits(claim.data_bits)
    maps = leakage_at(Setting(authors.map_photons(level, gain), gain)).weights_bits_per_real
    theirs = _weights_at(authors.published_f(level), claim)
    unit = "bit per real weight"
    return (
        Difference("lines of the maps instead of the simulated values", where, maps, theirs, unit),
        Difference("claimed, and their simulated values", where, claim.weights_bits, theirs, unit),
        *(
            Difference(f"claimed, and the network {name}", where, claim.weights_bits, bits, unit)
            for name, bits in _reached(measured)
        ),
        *(
            Difference(
                "data leakage: first version instead of journal form, M/n = 2",
                setting.label,
                data_bits_first(setting.gain, MODES),
                data_bits_journal(setting.gain, MODES, ROWS),
                "bit per symbol",
            )
            for setting in authors.SETTINGS
        ),
    )
