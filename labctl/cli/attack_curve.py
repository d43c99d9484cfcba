"""`labctl attack curve` and `agreement`: sessions counted against the theoretical power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl import checks
from labctl.cli import attack_options as ask
from labctl.cli import link_options, options, output
from labctl.data.models import Network, load_network
from labctl.errors import SettingError
from labctl.protocols.carried import require_blocks_of
from labctl.protocols.leakage import Trust
from labctl.protocols.receiver import ReceiverKind
from labctl.run.report import finite
from labctl.safety import interruptible
from labctl.studies.attacks.catalogue import attack_of
from labctl.studies.attacks.detection import DetectionTheory
from labctl.studies.attacks.detection_cases import SEED, Case, cases_of
from labctl.studies.attacks.detection_curve import (
    CONFIDENCE,
    Agreement,
    DetectionCurve,
    DetectionPoint,
    Rate,
    agreement_of,
    detection_curve,
    random_network,
    sessions_needed,
    sizes_for,
)
from labctl.wording import counted

# An even chance to be caught, and near certainty.
_POWERS = (0.5, 0.99)
# A false alarm that can be counted in sessions, and one that a laboratory would choose.
_ALARMS = (1e-3, 1e-6)
_NOTE = (
    f"Bars: Clopper and Pearson, {CONFIDENCE:.0%}. Theory: pooled noise and pooled gain alone; "
    "crosses: rejected by any check."
)


def curve(
    name: ask.Name,
    strength: ask.Strength = None,
    modes: Annotated[
        str,
        typer.Option(
            "--pooled-modes",
            help="Numbers of pooled modes, with commas between; rounded to whole images.",
        ),
    ] = "1e3,1e4,1e5,1e6",
    sessions: options.Sessions = 50,
    alarm: options.FalseAlarmProbabilities = "1e-3,1e-6",
    sizes: Annotated[
        str | None,
        typer.Option(
            help="Inputs, rows, ..., classes of a random network, as 40,40,10 (default: an "
            "image has the smallest of --pooled-modes)."
        ),
    ] = None,
    model: options.OptionalModel = None,
    mu: options.Mu = 4.0,
    gain: options.Gain = 2.0,
    loss_db: options.LossDb = 0.0,
    technical_noise: options.TechnicalNoise = 0.0,
    efficiency: options.Efficiency = 1.0,
    electronic_noise: options.ElectronicNoise = 0.0,
    noise_figure_db: options.OptionalNoiseFigureDb = None,
    receiver: link_options.Receiver = ReceiverKind.AMPLIFIER,
    block_modes: options.OptionalBlockModes = None,
    rotation_loss_db_per_mode: options.RotationLoss = 0.0,
    calibration_samples: options.CalibrationSamples = ask.VERIFICATION.calibration_samples,
    monitor_samples: options.MonitorSamples = ask.VERIFICATION.monitor_samples,
    seed: options.Seed = 0,
    figure: options.OptionalFigure = None,
    json: options.Json = False,
) -> None:
    """Count how often an attack is caught against pooled modes, beside the theoretical power.

    The network is random, of --sizes, unless --model names one.
    """
    settings = ask.settings_of(
        mu=mu,
        gain=gain,
        loss_db=loss_db,
        technical_noise=technical_noise,
        loss=Trust.UNTRUSTED,
        noise=Trust.UNTRUSTED,
        efficiency=efficiency,
        electronic_noise=electronic_noise,
        noise_figure_db=noise_figure_db,
        receiver=receiver,
        block_modes=block_modes,
        rotation_loss_db_per_mode=rotation_loss_db_per_mode,
        calibration_samples=calibration_samples,
        monitor_samples=monitor_samples,
        seed=seed,
    )
    output.require_png(figure)
    attack = attack_of(name, strength)
    pools = ask.whole_numbers("--pooled-modes", modes)
    alarms = list(dict.fromkeys(ask.numbers("--false-alarm-probabilities", alarm)))
    network = _network(sizes, model, min(pools), seed)
    require_blocks_of(network, block_modes)
    theory = DetectionTheory(attack, network, settings)
    total = sessions_needed(theory.honesty.modes, pools, max(sessions, 1))
    with interruptible() as check, output.progress(name, total, "sessions") as advance:

        def step(count: int) -> None:
            advance(count)
            check()

        found = detection_curve(
            theory.attack, network, settings, pools, sessions, alarms, on_session=step
        )
    if figure is not None:
        from labctl.cli.attack_figure import PlotPanel, draw_curves

        title = f"{name} {found.strength:g}, {'-'.join(map(str, found.sizes))}"
        per_point = counted(sessions, "session", "sessions")
        note = f"{ask.setting_words(settings)}; {per_point} per point.\n{_NOTE}"
        draw_curves(figure, [PlotPanel(title, found, theory)], note)
    if json:
        output.print_json(_curve_json(found, theory, agreement_of([found])))
    else:
        _show(found, theory)


def _network(sizes: str | None, model: str | None, modes: int, seed: int) -> Network:
    if model is not None:
        if sizes is not None:
            raise SettingError("--sizes", sizes, "left out where a model is given")
        return load_network(model)
    if sizes is None:
        return random_network(sizes_for(modes), seed)
    return random_network(tuple(ask.whole_numbers("--sizes", sizes)), seed)


def _rate_json(rate: Rate) -> dict[str, Any]:
    return {
        "caught": rate.caught,
        "sessions": rate.sessions,
        "measured": rate.measured,
        "lower": rate.lower,
        "upper": rate.upper,
    }


def _point_json(point: DetectionPoint) -> dict[str, Any]:
    return {
        "images": point.images,
        "modes": point.modes,
        "false_alarm_probability": point.false_alarm_probability,
        "theory": point.theory,
        "pooled": _rate_json(point.pooled),
        "verdict": _rate_json(point.verdict),
        "by_check": point.by_check,
    }


def _agreement_json(found: Agreement) -> dict[str, Any]:
    return {
        "chi_square": found.chi_square,
        "degrees": found.degrees,
        "p_value": found.p_value,
        "counts": found.counts,
        "least_p_value": found.least_p_value,
        "holds": found.holds,
    }


def _needed(curve: DetectionCurve, theory: DetectionTheory) -> list[dict[str, Any]]:
    alarms = dict.fromkeys(point.false_alarm_probability for point in curve.points)
    return [
        {
            "false_alarm_probability": alarm,
            "power": power,
            "modes": (modes := theory.modes_to_catch(alarm, power)),
            "images": None if modes is None else -(-modes // theory.honesty.modes),
        }
        for alarm in alarms
        for power in _POWERS
    ]


def _curve_json(
    curve: DetectionCurve, theory: DetectionTheory, agrees: Agreement
) -> dict[str, Any]:
    return {
        "attack": curve.attack,
        "strength": curve.strength,
        "sizes": list(curve.sizes),
        "modes_per_image": theory.honesty.modes,
        **finite(ask.settings_json(curve.settings)),
        "mark": {
            "excess_noise": curve.mark.excess_noise,
            "transmittance_ratio": curve.mark.transmittance_ratio,
        },
        "points": [_point_json(point) for point in curve.points],
        "needed": _needed(curve, theory),
        "agreement": _agreement_json(agrees),
        "confidence": CONFIDENCE,
    }


def _show(curve: DetectionCurve, theory: DetectionTheory) -> None:
    output.table(
        f"{curve.attack} {curve.strength:g} on a network {'-'.join(map(str, curve.sizes))}, "
        f"{ask.setting_words(curve.settings)}",
        ["modes", "alarms", "theory", "counted, 95 %", "all checks", "failed"],
        [_row(point) for point in curve.points],
    )
    for each in _needed(curve, theory):
        images = "no number of images" if each["images"] is None else f"{each['modes']} modes"
        of = "" if each["images"] is None else f", {counted(each['images'], 'image', 'images')},"
        output.people.print(
            f"{images}{of} for {each['power']:.0%} at {each['false_alarm_probability']:g}",
            style="dim",
        )
    output.people.print(_agreement_words(agreement_of([curve])))


def _row(point: DetectionPoint) -> list[str]:
    failed = [f"{name} {count}" for name, count in point.by_check.items() if count]
    pooled = point.pooled
    return [
        str(point.modes),
        f"{point.false_alarm_probability:g}",
        f"{point.theory:.3f}",
        f"{pooled.caught}/{pooled.sessions}, {pooled.lower:.2f} to {pooled.upper:.2f}",
        str(point.verdict.caught),
        ", ".join(failed) or "none",
    ]


def _agreement_words(found: Agreement) -> str:
    return (
        f"counts and theory {'agree' if found.holds else 'DISAGREE'}: chi-square "
        f"{found.chi_square:.1f} over {found.degrees} counts (p = {found.p_value:.3g}); least "
        f"exact p-value of {found.counts} counts, times their number: {found.least_p_value:.3g}"
    )


def agreement(
    case: Annotated[
        list[str] | None, typer.Option(help="Only this case; may be given more than once.")
    ] = None,
    sessions: Annotated[
        float,
        typer.Option(
            "--sessions-factor",
            help="Sessions of each case, relative to the usual number (1), above 0, at most 1000.",
        ),
    ] = 1.0,
    seed: options.Seed = SEED,
    figure: options.OptionalFigure = None,
    json: options.Json = False,
) -> None:
    """Compare counts with theory over a fixed set of attacks, networks and settings."""
    output.require_png(figure)
    checks.above("--sessions-factor", sessions, 0.0, 1000.0)
    checks.at_least("seed", seed, 0)
    chosen = cases_of(case or [])
    total = sum(each.sessions_at(sessions) * len(each.modes) for each in chosen)
    results: list[_Result] = []
    with interruptible() as check, output.progress("curves", total, "sessions") as advance:

        def step(count: int) -> None:
            advance(count)
            check()

        for each in chosen:
            found = each.curve(seed, scale=sessions, on_session=step)
            results.append(_Result(each, found, each.theory(seed)))
    described = [one.curve for one in results if one.case.left_out is None]
    overall = agreement_of(described) if described else None
    if figure is not None:
        _draw(figure, results, seed)
    if json:
        output.print_json(
            {
                "seed": seed,
                "cases": [one.as_json() for one in results],
                "agreement": None if overall is None else _agreement_json(overall),
            }
        )
        return
    output.table(
        f"Counts against theory, seeds from {seed}",
        ["case", "network", "modes", "sessions", "χ² / counts", "p", "least p"],
        [_case_row(one) for one in results],
    )
    for one in results:
        if one.case.left_out is not None:
            output.people.print(f"* {one.case.title}: {one.case.left_out}", style="dim")
    if overall is not None:
        output.people.print("all cases but those with *: " + _agreement_words(overall))


@dataclass(frozen=True)
class _Result:
    case: Case
    curve: DetectionCurve
    theory: DetectionTheory

    def as_json(self) -> dict[str, Any]:
        agrees = agreement_of([self.curve])
        return {
            "case": self.case.name,
            "left_out": self.case.left_out,
            **_curve_json(self.curve, self.theory, agrees),
        }


def _draw(path: Path, results: Sequence[_Result], seed: int) -> None:
    from labctl.cli.attack_figure import PlotPanel, draw_curves

    panels = [PlotPanel(one.case.heading, one.curve, one.theory) for one in results]
    draw_curves(path, panels, f"Seeds from {seed}. {_NOTE}")


def _case_row(one: _Result) -> list[str]:
    found, points = agreement_of([one.curve]), one.curve.points
    return [
        one.case.title + ("" if one.case.left_out is None else " *"),
        "-".join(map(str, one.case.sizes)),
        f"{points[0].modes:.2g} to {points[-1].modes:.2g}",
        f"{points[0].pooled.sessions} × {len({point.images for point in points})}",
        f"{found.chi_square:.1f} / {found.degrees}",
        f"{found.p_value:.2g}",
        f"{found.least_p_value:.2g}",
    ]
