"""Leakage against layer width and loss: closed forms, no network needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labctl.protocols.leakage import (
    Assumptions,
    data_bits_first,
    data_bits_journal,
    data_bits_quantum,
    holevo_bits_per_mode,
)
from labctl.protocols.receiver import added_noise
from labctl.studies.reproduce import authors
from labctl.studies.reproduce.authors import (
    BRIGHT,
    DIM,
    INPUTS,
    JOURNAL_GAIN,
    JOURNAL_PHOTONS,
    JOURNAL_ROWS,
    LOSS_GAIN,
    LOSS_INPUTS,
    LOSS_PHOTONS,
    MODES,
    ROWS,
    Setting,
    photons_for,
)
from labctl.studies.reproduce.figure import (
    Axis,
    Difference,
    Mark,
    Origin,
    Panel,
    Reproduction,
    Series,
)
from labctl.studies.reproduce.ours import (
    BEST,
    OPERATING_F,
    OPERATING_GAINS,
    WORST,
    leakage_at,
    operating_settings,
    square_layer,
)
from labctl.units import db_to_ratio

_WIDTHS = tuple(2 * round(float(n)) for n in np.geomspace(50, 5000, 60))
_LOSSES_DB = tuple(float(loss) for loss in np.linspace(0.0, 8.0, 81))
WEIGHTS = "weights' leakage $I_w$ (bit per real weight)"
REAL = "bit per real weight"
HOLEVO = (
    "weights: Holevo bound of Gaussian collective attacks, Gaussian weights, one query",
    "data: Cramer-Rao bound on one symbol; a per-symbol bound does not protect a label",
    "an honest client: excess noise g/n from an ideal amplifier, whole rows",
)


def against_width() -> Reproduction:
    """Return leakage against the neurons of a square layer, at fixed light and gain."""
    x = Axis("neurons per layer", True, (100.0, 10_000.0))
    mark = (Mark(float(INPUTS), "this network"),)
    first, journal = leakage_at(BRIGHT).data_bits_first, leakage_at(DIM).data_bits_journal
    return Reproduction(
        name="width",
        title="Leakage against layer width",
        caption=(
            "Leakage of one query through a square layer of N neurons, n = N/2 modes per row, "
            f"M = N rows, at fixed F. (a) Weights: theirs at {BRIGHT.label} (first version, its "
            f"bits per mode halved) and {DIM.label} (journal); ours at F = {OPERATING_F:g}. (b) "
            "Data: theirs by the first version's formula; by the journal's, whose scripts hold "
            "M = 784 rows and divide by N; the same with the true M/n = 2, and the limit of any "
            "receiver; ours in journal form. With as many rows as neurons it does not fall with N."
        ),
        footnote=(
            f"At N = {INPUTS}: data {first:.4f} bit in the first version ({BRIGHT.label}); "
            f"{authors.journal_data_bits(INPUTS):.3f} in the journal's scripts ({DIM.label}), "
            f"{journal:.3f} with the true M/n = 2. No loss, no technical noise."
        ),
        panels=(
            Panel(
                "weights",
                x,
                Axis(WEIGHTS, True, (1e-4, 0.3)),
                tuple(_weights_over_width()),
                mark,
            ),
            Panel(
                "data",
                x,
                Axis("data leakage $I_x$ (bit per symbol)", True, (3e-5, 3.0)),
                tuple(_data_over_width()),
                mark,
            ),
        ),
        differences=_width_differences(),
        assumptions=(*HOLEVO, "no loss, no technical noise"),
    )


def _weights_over_width() -> list[Series]:
    theirs = [
        (f"theirs, {version}, {setting.label}", Origin.THEIRS, setting, index)
        for index, (version, setting) in enumerate((("first", BRIGHT), ("journal", DIM)))
    ]
    ours = [
        (f"ours, F = {OPERATING_F:g}, G = {setting.gain:g}", Origin.OURS, setting, index)
        for index, setting in enumerate(operating_settings())
    ]
    x = tuple(float(width) for width in _WIDTHS)
    return [
        Series(
            label,
            origin,
            x,
            tuple(
                leakage_at(setting, layers=square_layer(width)).weights_bits_per_real
                for width in _WIDTHS
            ),
            variant=variant,
        )
        for label, origin, setting, variant in [*theirs, *ours]
    ]


def _data_over_width() -> list[Series]:
    gain = DIM.gain
    rules: list[tuple[str, Origin, int, Callable[[int], float]]] = [
        (
            f"theirs, first version, G = {BRIGHT.gain:g}",
            Origin.THEIRS,
            0,
            lambda n: data_bits_first(BRIGHT.gain, n // 2),
        ),
        (f"theirs, journal, G = {gain:g}, 784/N", Origin.THEIRS, 1, authors.journal_data_bits),
        (
            f"journal, ours too, G = {gain:g}, M/n = 2",
            Origin.CORRECTED,
            0,
            lambda n: data_bits_journal(gain, n // 2, n),
        ),
        (
            f"any receiver, G = {gain:g}, M/n = 2",
            Origin.CORRECTED,
            1,
            lambda n: data_bits_quantum(gain, n // 2, n),
        ),
        *(
            (f"ours, journal, G = {own:g}", Origin.OURS, index, _journal_at(own))
            for index, own in enumerate(OPERATING_GAINS)
            if own != gain
        ),
    ]
    x = tuple(float(width) for width in _WIDTHS)
    return [
        Series(label, origin, x, tuple(rule(width) for width in _WIDTHS), variant=variant)
        for label, origin, variant, rule in rules
    ]


def _journal_at(gain: float) -> Callable[[int], float]:
    return lambda width: data_bits_journal(gain, width // 2, width)


def _width_differences() -> tuple[Difference, ...]:
    at, found = leakage_at(BRIGHT), []
    where, per_datum = f"N = {INPUTS}, {BRIGHT.label}", "bit per symbol"
    per_mode = at.weights_bits_per_mode
    found.append(
        Difference(
            "first version: weights per mode, called a weight symbol, not per real weight",
            where,
            per_mode,
            at.weights_bits_per_real,
            "bit",
        )
    )
    found.append(
        Difference(
            "entropy of ν photons instead of (ν - 1)/2 (a co-author's fork; not the paper's value)",
            where,
            authors.entropy_of_eigenvalues(BRIGHT),
            per_mode,
            "bit per mode",
        )
    )
    found.append(
        Difference(
            "journal's scripts: M/n = 784/N instead of 784/392",
            f"N = {INPUTS}, {DIM.label}",
            authors.journal_data_bits(INPUTS),
            data_bits_journal(DIM.gain, MODES, ROWS),
            per_datum,
        )
    )
    journal = data_bits_journal(BRIGHT.gain, MODES, ROWS)
    for what, published in (
        ("data: first version instead of journal form, M/n = 784/392", at.data_bits_first),
        (
            "journal form: M = 794 (784 + 10: rows of both layers)",
            data_bits_journal(BRIGHT.gain, MODES, JOURNAL_ROWS),
        ),
    ):
        found.append(Difference(what, where, published, journal, per_datum))
    what = "data: homodyne (journal form) instead of any receiver, M/n = 2"
    found.append(Difference(what, where, journal, at.data_bits_quantum, per_datum))
    return tuple(found)


def against_loss() -> Reproduction:
    """Return leakage against the loss of the channel, lost light in either hand."""
    at_3_db = (authors.journal_weights_bits(3.0), authors.journal_weights_bits(3.0, power=1.0))
    x = Axis("loss of the round trip (dB)", limits=(0.0, 8.0))
    y = Axis("leakage $I_w$, $I_x$ (bit per real weight, symbol)", True, (3e-4, 5.0))
    weights = Axis(WEIGHTS, True, y.limits)
    names = (Mark(3.0, "local area", 0.15), Mark(6.0, "metropolitan", 0.15))
    return Reproduction(
        name="loss",
        title="Leakage against loss",
        caption=(
            "Leakage of one query against the channel's loss, taken as the round trip's. (a) "
            f"Theirs: the first scripts at G = {LOSS_GAIN:g}, μ = {LOSS_PHOTONS:g}/η (halved, for "
            f"they count per mode), and the journal's at G = {JOURNAL_GAIN:g}, "
            f"μ = {JOURNAL_PHOTONS:g}/η, with the bound given √η in both. Also the journal's with "
            "the bound given η, and that with the loss trusted (out of the client's reach). (b) At "
            f"F = {OPERATING_F:g} held, half of the loss being on the way to the client: lost "
            "light in the client's hands, and trusted. The data's leakage does not depend on the "
            "loss."
        ),
        footnote=(
            "Their scripts give the bound √η, half of the loss in dB, as if it were one way's: at "
            f"3 dB {at_3_db[0]:.3f} instead of {at_3_db[1]:.3f} bit per real weight (journal). No "
            "technical noise."
        ),
        panels=(
            Panel("their settings", x, y, tuple(_their_losses()), names),
            Panel(f"ours, F = {OPERATING_F:g}", x, weights, tuple(_our_losses()), names),
        ),
        differences=_loss_differences(),
        assumptions=(*HOLEVO, *in_words(WORST), *in_words(BEST), "no technical noise"),
    )


def _their_loss(loss_db: float, inputs: int = INPUTS) -> float:
    """Return their loss figure's bits per real weight with eta where it belongs, loss untrusted."""
    eta = db_to_ratio(-loss_db)
    noise = added_noise(LOSS_GAIN) / (inputs // 2)
    return holevo_bits_per_mode(LOSS_PHOTONS / eta, eta, noise) / 2.0


def _their_losses() -> list[Series]:
    rules: tuple[tuple[str, Origin, int, Callable[[float], float]], ...] = (
        ("theirs, weights, first", Origin.THEIRS, 0, authors.weights_bits_with_loss),
        ("theirs, weights, journal", Origin.THEIRS, 1, authors.journal_weights_bits),
        (
            "journal, η for √η, loss untrusted",
            Origin.CORRECTED,
            0,
            lambda loss_db: authors.journal_weights_bits(loss_db, power=1.0),
        ),
        ("journal, η for √η, loss trusted", Origin.CORRECTED, 1, _their_trusted),
        (
            "theirs, data, journal",
            Origin.THEIRS,
            2,
            lambda loss_db: authors.journal_data_bits(LOSS_INPUTS),
        ),
    )
    return [
        Series(label, origin, _LOSSES_DB, tuple(map(rule, _LOSSES_DB)), variant=variant)
        for label, origin, variant, rule in rules
    ]


def _their_trusted(loss_db: float) -> float:
    setting = Setting(JOURNAL_PHOTONS / db_to_ratio(-loss_db), JOURNAL_GAIN)
    return leakage_at(setting, loss_db=loss_db, assumptions=BEST).weights_bits_per_real


def _held(gain: float, loss_db: float) -> Setting:
    """Return the setting that holds F although half of the loss is on the way to the client."""
    return Setting(photons_for(OPERATING_F, gain) / db_to_ratio(-loss_db / 2.0), gain)


def _our_loss(gain: float, loss_db: float, assumptions: Assumptions) -> float:
    found = leakage_at(_held(gain, loss_db), loss_db=loss_db, assumptions=assumptions)
    return found.weights_bits_per_real


def _our_losses() -> list[Series]:
    lines = [
        Series(
            f"ours, weights, G = {gain:g}, loss {assumptions.loss}",
            Origin.OURS,
            _LOSSES_DB,
            tuple(_our_loss(gain, loss, assumptions) for loss in _LOSSES_DB),
            variant=2 * index + trusted,
        )
        for trusted, assumptions in enumerate((WORST, BEST))
        for index, gain in enumerate(OPERATING_GAINS)
    ]
    return sorted(lines, key=lambda line: line.variant)


def _loss_differences() -> tuple[Difference, ...]:
    found = []
    for loss_db in (0.0, 1.0, 3.0, 6.0):
        where = f"{loss_db:g} dB, μ = {LOSS_PHOTONS:g}/η, G = {LOSS_GAIN:g}"
        root, eta = authors.weights_bits_with_loss(loss_db), _their_loss(loss_db, LOSS_INPUTS)
        if loss_db:
            what = "first: √η in place of η, loss untrusted"
            found.append(Difference(what, where, root, eta, REAL))
        what = "first: 748 neurons instead of 784"
        found.append(Difference(what, where, eta, _their_loss(loss_db), REAL))
    for loss_db in (1.0, 3.0, 6.0):
        where = f"{loss_db:g} dB, μ = {JOURNAL_PHOTONS:g}/η, G = {JOURNAL_GAIN:g}"
        root = authors.journal_weights_bits(loss_db)
        eta = authors.journal_weights_bits(loss_db, power=1.0)
        what = "journal: √η in place of η, loss untrusted"
        found.append(Difference(what, where, root, eta, REAL))
        what = "journal: lost light in the client's hands (theirs, √η) or trusted (here)"
        found.append(Difference(what, where, root, _their_trusted(loss_db), REAL))
    for gain in OPERATING_GAINS:
        where = f"3 dB, F = {OPERATING_F:g}, G = {gain:g}"
        values = (_our_loss(gain, 3.0, WORST), _our_loss(gain, 3.0, BEST))
        found.append(Difference("ours: loss untrusted (first), trusted", where, *values, REAL))
    return tuple(found)


def in_words(assumptions: Assumptions) -> tuple[str, ...]:
    """Return what the assumption says of loss and technical noise."""
    words = assumptions.sentences()
    return tuple(word for word in words if word.startswith(("loss", "technical")))
