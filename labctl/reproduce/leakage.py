"""Leakage against layer width, loss and technical noise: closed forms, no network needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from labctl.protocols.leakage import (
    Assumptions,
    data_bits_first,
    data_bits_journal,
    data_bits_quantum,
    holevo_bits_per_mode,
)
from labctl.protocols.receiver import added_noise
from labctl.reproduce import authors
from labctl.reproduce.authors import (
    BRIGHT,
    INPUTS,
    JOURNAL_ROWS,
    LOSS_GAIN,
    LOSS_INPUTS,
    LOSS_PHOTONS,
    MODES,
    ROWS,
    Setting,
    photons_for,
)
from labctl.reproduce.figure import Axis, Difference, Mark, Origin, Panel, Reproduction, Series
from labctl.reproduce.ours import (
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
_NOISES = tuple(float(noise) for noise in np.geomspace(1e-5, 0.1, 81))
_NOISE_POINT = 0.02
_WEIGHTS = "weights' leakage $I_w$ (bit per real weight)"
_REAL = "bit per real weight"
_HOLEVO = (
    "weights: Holevo bound of Gaussian collective attacks, Gaussian weights, one query",
    "data: Cramer-Rao bound on one symbol; a per-symbol bound does not protect a label",
    "an honest client: excess noise g/n from an ideal amplifier, whole rows",
)


def against_width() -> Reproduction:
    """Return leakage against the neurons of a square layer, at fixed light and gain."""
    x = Axis("neurons per layer", True, (100.0, 10_000.0))
    mark = (Mark(float(INPUTS), "this network"),)
    first, journal = leakage_at(BRIGHT).data_bits_first, leakage_at(BRIGHT).data_bits_journal
    return Reproduction(
        name="width",
        title="Leakage against layer width",
        caption=(
            "Leakage of one query through a square layer of N neurons, n = N/2 modes per row, "
            f"M = N rows, at fixed F. (a) Weights: theirs at {BRIGHT.label} (F = 4), bits per mode "
            f"halved; ours at F = {OPERATING_F:g}. (b) Data: theirs by the first version's formula "
            "and by the journal's with M/n = 1; with the true M/n = 2; the limit of any receiver; "
            "ours in journal form. Only the first version falls with N."
        ),
        footnote=(
            f"At N = {INPUTS}, {BRIGHT.label}: data {first:.4f} bit in the first version, "
            f"{journal:.3f} in journal form with M/n = 2. Their bits per weight symbol are "
            "per mode, of two real weights. No loss, no technical noise."
        ),
        panels=(
            Panel(
                "weights",
                x,
                Axis(_WEIGHTS, True, (1e-4, 0.3)),
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
        assumptions=(*_HOLEVO, "no loss, no technical noise"),
    )


def _weights_over_width() -> list[Series]:
    theirs = [("theirs, " + BRIGHT.label, Origin.THEIRS, BRIGHT, 0)]
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
    gain = BRIGHT.gain
    rules: list[tuple[str, Origin, int, Callable[[int], float]]] = [
        ("theirs, first version", Origin.THEIRS, 0, lambda n: data_bits_first(gain, n // 2)),
        (
            "theirs, journal, M/n = 1",
            Origin.THEIRS,
            1,
            lambda n: data_bits_journal(gain, n // 2, n // 2),
        ),
        ("journal, M/n = 2", Origin.CORRECTED, 0, lambda n: data_bits_journal(gain, n // 2, n)),
        (
            "any receiver, M/n = 2",
            Origin.CORRECTED,
            1,
            lambda n: data_bits_quantum(gain, n // 2, n),
        ),
        *(
            (f"ours, journal, G = {own:g}", Origin.OURS, index, _journal_at(own))
            for index, own in enumerate(OPERATING_GAINS)
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
            "weights per mode, called a weight symbol, instead of per real weight",
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
    journal = data_bits_journal(BRIGHT.gain, MODES, ROWS)
    for what, published in (
        ("data: first version instead of journal form, M/n = 784/392", at.data_bits_first),
        ("journal form: M/n = 1", data_bits_journal(BRIGHT.gain, MODES, MODES)),
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
    at_3_db = (authors.weights_bits_with_loss(3.0), _their_loss(3.0))
    x = Axis("loss of the round trip (dB)", limits=(0.0, 8.0))
    y = Axis("leakage $I_w$, $I_x$ (bit per real weight, symbol)", True, (3e-4, 5.0))
    weights = Axis(_WEIGHTS, True, y.limits)
    names = (Mark(3.0, "local area", 0.15), Mark(6.0, "metropolitan", 0.15))
    return Reproduction(
        name="loss",
        title="Leakage against loss",
        caption=(
            "Leakage of one query against the channel's loss, taken as the round trip's. (a) At "
            f"their setting, G = {LOSS_GAIN:g} and light of μ = {LOSS_PHOTONS:g}/η: their bound "
            "given √η, the same bound given η, and that with the loss trusted (out of the client's "
            "reach). (b) At "
            f"F = {OPERATING_F:g} held, half of the loss being on the way to the client: lost "
            "light in the client's hands, and trusted. The data's leakage does not depend on the "
            "loss."
        ),
        footnote=(
            "Their script passes √η as the channel's transmittance η, half of the loss in dB: at 3 "
            f"dB {at_3_db[0]:.2f} instead of {at_3_db[1]:.2f} bit per real weight. No technical "
            "noise."
        ),
        panels=(
            Panel("their setting", x, y, tuple(_their_losses()), names),
            Panel(f"ours, F = {OPERATING_F:g}", x, weights, tuple(_our_losses()), names),
        ),
        differences=_loss_differences(),
        assumptions=(*_HOLEVO, *_in_words(WORST), *_in_words(BEST), "no technical noise"),
    )


def _their_loss(loss_db: float, inputs: int = INPUTS) -> float:
    """Return their loss figure's bits per real weight with eta where it belongs, loss untrusted."""
    eta = db_to_ratio(-loss_db)
    noise = added_noise(LOSS_GAIN) / (inputs // 2)
    return holevo_bits_per_mode(LOSS_PHOTONS / eta, eta, noise) / 2.0


def _their_losses() -> list[Series]:
    rules: tuple[tuple[str, Origin, int, Callable[[float], float]], ...] = (
        ("theirs, weights, √η for η", Origin.THEIRS, 0, authors.weights_bits_with_loss),
        ("weights, η, loss untrusted", Origin.CORRECTED, 0, _their_loss),
        ("weights, η, loss trusted", Origin.CORRECTED, 1, _their_trusted),
        (
            "theirs, data, first version",
            Origin.THEIRS,
            1,
            lambda loss_db: data_bits_first(LOSS_GAIN, LOSS_INPUTS // 2),
        ),
    )
    return [
        Series(label, origin, _LOSSES_DB, tuple(map(rule, _LOSSES_DB)), variant=variant)
        for label, origin, variant, rule in rules
    ]


def _their_trusted(loss_db: float) -> float:
    setting = Setting(LOSS_PHOTONS / db_to_ratio(-loss_db), LOSS_GAIN)
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
            what = "√η in place of η, loss untrusted"
            found.append(Difference(what, where, root, eta, _REAL))
        what = "748 neurons instead of 784"
        found.append(Difference(what, where, eta, _their_loss(loss_db), _REAL))
    trusted = _their_trusted(3.0)
    where = f"3 dB, μ = {LOSS_PHOTONS:g}/η, G = {LOSS_GAIN:g}"
    what = "lost light in the client's hands (theirs, √η) or trusted (ours)"
    found.append(Difference(what, where, authors.weights_bits_with_loss(3.0), trusted, _REAL))
    for gain in OPERATING_GAINS:
        where = f"3 dB, F = {OPERATING_F:g}, G = {gain:g}"
        values = (_our_loss(gain, 3.0, WORST), _our_loss(gain, 3.0, BEST))
        found.append(Difference("ours: loss untrusted (first), trusted", where, *values, _REAL))
    return tuple(found)


def against_noise() -> Reproduction:
    """Return leakage against technical noise, in the channel or in the server's receiver."""
    x = Axis("technical noise (SNU)", True, (_NOISES[0], _NOISES[-1]))
    y = Axis(_WEIGHTS, True, (5e-4, 1.0))
    worst = leakage_at(authors.DIM, technical_noise=_NOISE_POINT).weights_bits_per_real
    none = leakage_at(authors.DIM).weights_bits_per_real
    return Reproduction(
        name="technical-noise",
        title="Leakage against technical noise",
        caption=(
            "Weights' leakage of one query against the link's technical noise at the server, in "
            "shot-noise units. Theirs: the bound at their settings with the honest client's noise "
            "alone, as they evaluate it, which is what trusted noise (in the server's calibrated "
            "receiver) gives; with untrusted noise all of it counts as the client's. (a) Their "
            f"settings; (b) ours at F = {OPERATING_F:g}. The scripts have no technical noise."
        ),
        footnote=(
            f"At {authors.DIM.label}: {none:.4f} bit per real weight without technical noise or "
            f"with trusted noise, {worst:.2f} with {_NOISE_POINT:g} SNU untrusted. No loss."
        ),
        panels=(
            Panel("their settings", x, y, tuple(_their_noises()), _noise_marks()),
            Panel(
                f"ours, F = {OPERATING_F:g}",
                x,
                y,
                tuple(_noise_lines(operating_settings(), Origin.OURS, "ours, ")),
                _noise_marks(),
            ),
        ),
        differences=_noise_differences(),
        assumptions=(*_HOLEVO, *_in_words(WORST), *_in_words(BEST), "no loss"),
    )


def _noise_marks() -> tuple[Mark, ...]:
    return (Mark(_NOISE_POINT, f"{_NOISE_POINT:g} SNU"),)


def _their_noises() -> list[Series]:
    published = [
        Series(
            f"theirs, {setting.label}, none or trusted",
            Origin.THEIRS,
            _NOISES,
            (leakage_at(setting).weights_bits_per_real,) * len(_NOISES),
            variant=index,
        )
        for index, setting in enumerate(authors.SETTINGS)
    ]
    lines = _noise_lines(authors.SETTINGS, Origin.CORRECTED, "theirs, ")
    return [*published, *(line for line in lines if "untrusted" in line.label)]


def _noise_lines(settings: Sequence[Setting], origin: Origin, prefix: str) -> list[Series]:
    return [
        Series(
            f"{prefix}{setting.label}, {assumptions.technical_noise}",
            origin,
            _NOISES,
            tuple(_with_noise(setting, noise, assumptions) for noise in _NOISES),
            variant=index if origin is Origin.CORRECTED else 2 * index + trusted,
        )
        for index, setting in enumerate(settings)
        for trusted, assumptions in enumerate((WORST, BEST))
    ]


def _with_noise(setting: Setting, noise: float, assumptions: Assumptions) -> float:
    found = leakage_at(setting, technical_noise=noise, assumptions=assumptions)
    return found.weights_bits_per_real


def _noise_differences() -> tuple[Difference, ...]:
    return tuple(
        Difference(
            f"technical noise of {_NOISE_POINT:g} SNU: none or trusted, and untrusted",
            setting.label,
            leakage_at(setting).weights_bits_per_real,
            _with_noise(setting, _NOISE_POINT, WORST),
            _REAL,
        )
        for setting in (*authors.SETTINGS, *operating_settings())
    )


def _in_words(assumptions: Assumptions) -> tuple[str, ...]:
    """Return what the assumption says of loss and technical noise."""
    words = assumptions.sentences()
    return tuple(word for word in words if word.startswith(("loss", "technical")))
