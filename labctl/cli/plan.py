"""`labctl plan`: from accuracy and leakage wanted to settings, or why they cannot be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from labctl import checks
from labctl.cli import link_options, options, output, plan_copies, plan_figure, plan_report
from labctl.cli.choices import assumptions, images_of
from labctl.cli.plan_copies import PlanCopies
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network, load_network
from labctl.errors import LabctlError, UsageError
from labctl.protocols.carried import carried
from labctl.protocols.hiding.hiding import Hiding, require_decoys
from labctl.protocols.labels.curve import LabelCurve, load_curves
from labctl.protocols.labels.figures import TYPICAL_MISMATCH, mode_overlap
from labctl.protocols.labels.reading import Detection
from labctl.protocols.leakage import LayerShape, Trust, WeightsFigure, spectrum_of
from labctl.protocols.mismatch import CloneMismatch
from labctl.protocols.probation.schedule import Probation
from labctl.protocols.receiver import Homodyne, ReceiverKind
from labctl.protocols.rotation import Rotation
from labctl.protocols.server import Server
from labctl.protocols.settings import VerificationSettings
from labctl.protocols.weight_distribution import WeightDistribution
from labctl.protocols.weight_search import look_at, require_not_told_apart
from labctl.safety import interruptible
from labctl.studies.planner.accuracy_curve import (
    DEFAULT_GRID,
    DEFAULT_RUNS,
    MOST_RUNS,
    AccuracyCurve,
    measure_curve,
)
from labctl.studies.planner.binding import BindingLimit
from labctl.studies.planner.copies import DEFAULT_QUERIES, CopyLimit, PlannedCopies
from labctl.studies.planner.curve_file import (
    cache_folder,
    cached_curve,
    curve_path,
    known_curve,
    save_curve,
)
from labctl.studies.planner.option import Conditions, Option, PlanLimits
from labctl.studies.planner.plan import (
    Plan,
    Planner,
    Preference,
    Proof,
    Wish,
    with_network_bound,
)
from labctl.studies.planner.search import Search
from labctl.studies.planner.throughput import Transmission
from labctl.units import dbm_to_w

# 10 MW; a slip beyond.
_MOST_DBM = 100.0


def plan(
    accuracy: Annotated[float, typer.Option(help="Minimum accuracy, 0 to 1.")],
    weights_bits: Annotated[
        float | None,
        typer.Option(
            help="Maximum leakage in bits per real weight and query, by --weights-figure.",
            rich_help_panel=options.LIMITS,
        ),
    ] = None,
    weights_figure: Annotated[
        WeightsFigure,
        typer.Option(
            help="Figure that --weights-bits limits: the bound, or an honest client's leakage.",
            rich_help_panel=options.LIMITS,
        ),
    ] = WeightsFigure.PRIOR_FREE,
    data_bits: options.OptionalDataBits = None,
    label_attack: Annotated[
        float | None,
        typer.Option(
            help="Maximum success of a curious server that reads the label of one query, 0 to 1.",
            rich_help_panel=options.LIMITS,
        ),
    ] = None,
    label_receiver: Annotated[
        Detection,
        typer.Option(
            "--label-detection",
            help="How that server reads the returned light (needs --label-attack).",
        ),
    ] = Detection.HOMODYNE,
    label_curve: Annotated[
        Path | None,
        typer.Option(
            help="File of that server's success against evidence (default: the shipped one)."
        ),
    ] = None,
    clone_gain_error: options.CloneGainError = TYPICAL_MISMATCH.gain_error,
    clone_phase_rad: options.ClonePhase = 0.0,
    model: options.Model = "noise-aware",
    confidence: Annotated[
        float,
        typer.Option(
            help="Confidence that images like these get the accuracy; 0.5: best estimate."
        ),
    ] = 0.95,
    prefer: Annotated[
        Preference, typer.Option(help="What to minimise within the limits.")
    ] = Preference.WEIGHTS,
    loss_db: options.LossDb = 0.0,
    loss: link_options.LossTrust = Trust.UNTRUSTED,
    technical_noise: options.TechnicalNoise = 0.0,
    noise: link_options.NoiseTrust = Trust.UNTRUSTED,
    efficiency: options.Efficiency = 1.0,
    electronic_noise: options.ElectronicNoise = 0.0,
    emission_factor: options.EmissionFactor = 1.0,
    receiver: link_options.Receiver = ReceiverKind.AMPLIFIER,
    rotation_loss_db_per_mode: options.RotationLoss = 0.0,
    coupler_error_rad: options.CouplerError = 0.0,
    phase_error_rad: options.PhaseError = 0.0,
    bound_factor: Annotated[
        float, typer.Option(help="Bound to prove, relative to the leakage of honest use, above 1.")
    ] = 2.0,
    bound_bits: Annotated[
        float | None,
        typer.Option(help="Bound to prove in bits per real weight, instead of --bound-factor."),
    ] = None,
    failure_probability: options.FailureProbability = 1e-10,
    false_alarm_probability: options.FalseAlarmProbability = 1e-6,
    calibration_samples: options.OptionalCalibrationSamples = None,
    symbol_rate_hz: Annotated[float, typer.Option(help="Symbol rate in pulses per second.")] = 20e6,
    preamble_symbols: Annotated[
        int, typer.Option(help="Number of pulses at the start of a frame.")
    ] = 257,
    guard_symbols: Annotated[
        int, typer.Option(help="Number of empty time slots at each end of a row.")
    ] = 16,
    frequency_thz: Annotated[
        float, typer.Option(help="Optical frequency in THz, above 0, to 10,000.")
    ] = 193.4,
    lo_power_dbm: Annotated[
        float | None,
        typer.Option(
            help="Power of each of the two local oscillators in dBm (default: not counted)."
        ),
    ] = None,
    images: options.OptionalImages = None,
    runs: options.NoiseRuns = DEFAULT_RUNS,
    data: options.OptionalData = None,
    curve: Annotated[
        Path | None,
        typer.Option(
            "--accuracy-curve",
            help="File of accuracy against F; measured and written if it does not exist.",
        ),
    ] = None,
    accept_discrete_weights: options.AcceptDiscreteWeights = False,
    decoys: options.Decoys = 0,
    copy_accuracy: options.OptionalCopyAccuracy = None,
    copy_distance: Annotated[
        float | None,
        typer.Option(
            help="Maximum accuracy of that copy above a copy made from classes alone, 0 to 1."
        ),
    ] = None,
    copy_queries: Annotated[
        int, typer.Option(help="Number of queries for --copy-accuracy and --copy-distance.")
    ] = DEFAULT_QUERIES,
    real_share: options.RealShare = 1.0,
    figure: options.OptionalFigure = None,
    json: options.Json = False,
) -> None:
    """Find light, gain, block size and images to pool; or say what cannot be reached, and why.

    --images is all test images unless given; --calibration-samples is as many as are pooled.
    """
    output.require_png(figure)
    checks.within("runs", runs, 1, MOST_RUNS)
    network = load_network(model)
    require_decoys(decoys, network.sizes[-1])
    limits = PlanLimits(weights_bits, data_bits, label_attack)
    copy_limit = CopyLimit(copy_accuracy, copy_distance, copy_queries)
    # Refuses a share that is none.
    Probation(0, real_share)
    wish = Wish(accuracy, limits, confidence, prefer)
    homodyne = Homodyne(efficiency, electronic_noise)
    conditions = Conditions(
        layers=Server(network, 1.0, clones_of=Hiding(decoys).clones_of).shapes,
        weights_figure=weights_figure,
        assumptions=assumptions(loss, noise),
        loss_db=loss_db,
        technical_noise=technical_noise,
        client=homodyne,
        verifier=homodyne,
        rotation=Rotation(rotation_loss_db_per_mode, coupler_error_rad, phase_error_rad),
        kind=receiver,
        emission_factor=emission_factor,
    )
    transmission = Transmission(
        symbol_rate_hz=symbol_rate_hz,
        preamble_symbols=preamble_symbols,
        guard_symbols=guard_symbols,
        frequency_hz=_hertz(frequency_thz),
        local_oscillator_w=_power_w(lo_power_dbm),
    )
    # What cannot be run is refused before accuracy is measured.
    _require_frames(transmission, conditions.layers)
    curves = None if label_attack is None else load_curves(label_curve)
    labels = None if curves is None else curves.curve(label_receiver)
    proof = Proof(
        VerificationSettings(failure_probability, false_alarm_probability),
        calibration_samples,
        bound_factor,
        bound_bits,
    )
    copies = _copies(network, decoys, proof.verification)
    mismatch = CloneMismatch(clone_gain_error, clone_phase_rad)
    spares = _spares(copies, copy_limit, conditions)
    with interruptible():
        pictures = images_of(data, images)
        measured, source = _curve(network, pictures, runs, curve)
        search = _search(conditions, labels, mismatch, network, pictures)
        search = replace(search, spares_copies=spares)
        planner = Planner(search, measured, transmission, proof)
        found = planner.plan(wish, on_step=_say_to_people)
        found = with_network_bound(found, conditions, spectrum_of(network))
    distribution = _distribution_at(found, network, accept_discrete_weights)
    if figure is not None:
        plan_figure.draw(figure, found, conditions.assumptions, weights_figure)
    copies_found = plan_copies.found_copies(planner, found, copies, copy_limit, real_share)
    if json:
        _print_json(planner, found, distribution, copies_found, source)
    else:
        _print(planner, found, distribution, copies_found, source, model)
    if found.recommended is None:
        raise _refused(planner, found, copies_found)


def _refused(planner: Planner, found: Plan, copies: PlanCopies) -> LabctlError:
    """Return the error of a wish that nothing fulfils: it names the limits at fault."""
    at_fault = plan_report.binding_limits(planner, found)
    copies_alone = copies.refusal() if at_fault == (BindingLimit.COPIES,) else None
    return LabctlError(copies_alone or plan_report.refusal(planner, found, at_fault))


def _spares(
    copies: PlannedCopies, limit: CopyLimit, conditions: Conditions
) -> Callable[[Option], bool] | None:
    """Return whether an option keeps the limits on copies; None where there are none."""
    if limit.none:
        return None
    plan_copies.require_measured(copies)
    return partial(copies.keeps, limit, conditions)


def _require_frames(transmission: Transmission, layers: Iterable[LayerShape]) -> None:
    """Refuse what no frame can carry."""
    for layer in layers:
        transmission.slots(layer)


def _copies(network: Network, decoys: int, verification: VerificationSettings) -> PlannedCopies:
    """Return what is known of copies of a network, by the shipped table."""
    return PlannedCopies(
        network.sha256,
        network.name,
        carried(network).network.sizes,
        Hiding(decoys),
        verification=verification,
    )


def _distribution_at(found: Plan, network: Network, accepted: bool) -> WeightDistribution | None:
    """Return how the weights lie at the recommended light; refuses what a client tells apart."""
    if found.recommended is None:
        return None
    distribution = look_at(network, found.recommended.option.mean_photons)
    require_not_told_apart(distribution, accepted=accepted)
    return distribution


def _search(
    conditions: Conditions,
    labels: LabelCurve | None,
    mismatch: CloneMismatch,
    network: Network,
    images: LabelledImages,
) -> Search:
    """Return the search for a setting; with a limit on labels, by their curve."""
    if labels is None:
        return Search(conditions)
    return Search(conditions, labels, mismatch, mode_overlap(network, images.images))


def _print_json(
    planner: Planner,
    found: Plan,
    distribution: WeightDistribution | None,
    copies: PlanCopies,
    source: str,
) -> None:
    output.print_json(
        {
            **plan_report.as_json(planner, found),
            "accuracy_curve_source": source,
            "weight_distribution": None if distribution is None else distribution.as_json(),
            **copies.as_json(),
        }
    )


def _print(
    planner: Planner,
    found: Plan,
    distribution: WeightDistribution | None,
    copies: PlanCopies,
    source: str,
    model: str,
) -> None:
    plan_report.show(planner, found, model)
    copies.show()
    output.people.print(f"accuracy curve: {source}", soft_wrap=True)
    if distribution is not None and distribution.discrete:
        output.people.print(f"weights: {distribution.statement()}")


def _say_to_people(step: str) -> None:
    """Say on a terminal what takes its time; a script's stderr is for errors."""
    if output.aside.is_terminal:
        output.say_step(step)


def _hertz(terahertz: float) -> float:
    checks.above("--frequency-thz", terahertz, 0.0, 1e4)
    return terahertz * 1e12


def _power_w(power_dbm: float | None) -> float | None:
    if power_dbm is None:
        return None
    checks.within("--lo-power-dbm", power_dbm, -_MOST_DBM, _MOST_DBM, note=" dBm")
    return dbm_to_w(power_dbm)


def _curve(
    network: Network, images: LabelledImages, runs: int, file: Path | None
) -> tuple[AccuracyCurve, str]:
    """Return the accuracy curve from its file or the user's cache, and which in words.

    It is measured once for all.
    """
    path = file or curve_path(cache_folder(), network, images, runs)
    known = (cached_curve if file is None else known_curve)(path, network, images)
    if known is not None:
        return known, f"measured before, {_dated(path, file)}"
    with output.progress("accuracy curve", len(DEFAULT_GRID) * runs, "runs") as advance:
        measured = measure_curve(network, images, runs=runs, on_run=advance)
    try:
        save_curve(measured, path)
        kept = f"measured now, {_dated(path, file)}"
    except UsageError as problem:
        if file is not None:
            raise
        output.say_step(f"accuracy curve not kept: {problem}")
        kept = "measured now, not kept"
    return measured, kept


def _dated(path: Path, file: Path | None) -> str:
    """Name the curve's file and its date."""
    whose = "the user's cache" if file is None else "the file given"
    written = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    return f"{whose}: {path} of {written:%Y-%m-%d %H:%M %Z}"
