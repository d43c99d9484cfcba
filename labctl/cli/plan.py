"""`labctl plan`: from accuracy and leakage wanted to settings, or why they cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from labctl.cli import output, plan_copies, plan_report
from labctl.cli.choices import ACCEPT_DISCRETE_WEIGHTS, assumptions, images_of
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network, load_network
from labctl.errors import LabctlError, SettingError, UsageError
from labctl.protocols.carried import carried
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.labels.curve import load_curves
from labctl.protocols.labels.figures import TYPICAL_MISMATCH, mode_overlap
from labctl.protocols.labels.reading import Detection
from labctl.protocols.leakage import Trust, WeightsFigure
from labctl.protocols.mismatch import CloneMismatch
from labctl.protocols.probation.schedule import Probation
from labctl.protocols.receiver import Homodyne, ReceiverKind
from labctl.protocols.rotation import Rotation
from labctl.protocols.server import Server
from labctl.protocols.settings import VerificationSettings
from labctl.protocols.weight_distribution import look_at, require_not_told_apart
from labctl.safety import interruptible
from labctl.studies.planner.accuracy_curve import (
    DEFAULT_GRID,
    DEFAULT_RUNS,
    AccuracyCurve,
    measure_curve,
)
from labctl.studies.planner.copies import DEFAULT_QUERIES, CopyLimit, PlannedCopies
from labctl.studies.planner.curve_file import (
    cache_folder,
    cached_curve,
    curve_path,
    known_curve,
    save_curve,
)
from labctl.studies.planner.option import Conditions, Limits, Option
from labctl.studies.planner.plan import Planner, Preference, Proof, Wish
from labctl.studies.planner.search import Search
from labctl.studies.planner.throughput import Transmission
from labctl.units import dbm_to_w

_MOST_DBM = 100.0


def plan(
    accuracy: Annotated[float, typer.Option(help="Least accuracy, 0 to 1.")],
    weights_bits: Annotated[
        float | None, typer.Option(help="Most bits per real weight and query, by --weights-figure.")
    ] = None,
    weights_figure: Annotated[
        WeightsFigure,
        typer.Option(help="Figure of the weights to go by: the bound, or the honest one."),
    ] = WeightsFigure.PRIOR_FREE,
    data_bits: Annotated[
        float | None, typer.Option(help="Most bits per data symbol and input, journal version.")
    ] = None,
    label_attack: Annotated[
        float | None,
        typer.Option(help="Most success of label reading by a curious server, one query, 0 to 1."),
    ] = None,
    label_receiver: Annotated[
        Detection, typer.Option(help="What that server reads with (needs --label-attack).")
    ] = Detection.HOMODYNE,
    label_curve: Annotated[
        Path | None, typer.Option(help="File of its success (default: the shipped one).")
    ] = None,
    clone_gain_error: Annotated[
        float,
        typer.Option(
            help="Net amplitude gain of the client's clone over 1, less 1, relative (delta), for "
            "--label-attack; 0.001 is 0.0087 dB. No gain below the best for labels is taken."
        ),
    ] = TYPICAL_MISMATCH.gain_error,
    clone_phase_rad: Annotated[
        float, typer.Option(help="Phase of what the client's clone returns, in rad.")
    ] = 0.0,
    model: Annotated[
        str,
        typer.Option(help="A shipped network (as noise-aware), or a .safetensors or .npz file."),
    ] = "noise-aware",
    confidence: Annotated[
        float, typer.Option(help="That images like these get the accuracy; 0.5: best value.")
    ] = 0.95,
    prefer: Annotated[
        Preference, typer.Option(help="What to have least of within the limits.")
    ] = Preference.WEIGHTS,
    loss_db: Annotated[float, typer.Option(help="Loss of the link's round trip in dB.")] = 0.0,
    loss: Annotated[
        Trust, typer.Option(help="Untrusted (the worst case): the client may hold lost light.")
    ] = Trust.UNTRUSTED,
    technical_noise: Annotated[float, typer.Option(help="Technical noise in SNU.")] = 0.0,
    noise: Annotated[
        Trust, typer.Option(help="Untrusted (the worst case): technical noise is the client's.")
    ] = Trust.UNTRUSTED,
    efficiency: Annotated[float, typer.Option(help="Of both homodyne receivers.")] = 1.0,
    electronic_noise: Annotated[
        float, typer.Option(help="Electronic noise of both receivers in SNU.")
    ] = 0.0,
    emission_factor: Annotated[
        float, typer.Option(help="n_sp of the client's amplifier (1: quantum limit).")
    ] = 1.0,
    receiver: Annotated[
        ReceiverKind, typer.Option(help="How the client clones a mode.")
    ] = ReceiverKind.AMPLIFIER,
    rotation_loss_db_per_mode: Annotated[
        float, typer.Option(help="Loss of each element of the rotation, each way; untrusted.")
    ] = 0.0,
    coupler_error_rad: Annotated[
        float, typer.Option(help="Standard deviation of the couplers' errors.")
    ] = 0.0,
    phase_error_rad: Annotated[
        float, typer.Option(help="Standard deviation of the phases' errors.")
    ] = 0.0,
    bound_factor: Annotated[
        float, typer.Option(help="Bound to prove, in units of what honest use leaks, above 1.")
    ] = 2.0,
    bound_bits: Annotated[
        float | None, typer.Option(help="Bound to prove in bits per weight, instead.")
    ] = None,
    failure_probability: Annotated[
        float, typer.Option(help="Chance that the truth is beyond the bounds.")
    ] = 1e-10,
    false_alarm_probability: Annotated[
        float, typer.Option(help="Chance that a verdict rejects honest use.")
    ] = 1e-6,
    calibration_samples: Annotated[
        int | None,
        typer.Option(help="Samples of the shot-noise unit (default: as many as are pooled)."),
    ] = None,
    symbol_rate_hz: Annotated[float, typer.Option(help="Pulses per second.")] = 20e6,
    preamble_symbols: Annotated[int, typer.Option(help="Pulses that begin a frame.")] = 257,
    guard_symbols: Annotated[int, typer.Option(help="Empty slots on each end of rows.")] = 16,
    frequency_thz: Annotated[float, typer.Option(help="Optical frequency in THz.")] = 193.4,
    lo_power_dbm: Annotated[
        float | None,
        typer.Option(help="Power of each of the two local oscillators (default: not counted)."),
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Images to measure accuracy on (default: all).")
    ] = None,
    runs: Annotated[int, typer.Option(help="Runs per F, each with its own noise.")] = DEFAULT_RUNS,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with idx test images, or a task's name (default: MNIST)."),
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(help="File of the accuracy curve; measured into it if it is not there."),
    ] = None,
    accept_discrete_weights: Annotated[bool, ACCEPT_DISCRETE_WEIGHTS] = False,
    decoys: Annotated[
        int,
        typer.Option(help="Inputs that the client clones besides its own, as in `infer --decoys`."),
    ] = 0,
    copy_accuracy: Annotated[
        float | None,
        typer.Option(help="Most accuracy of the best copy after --copy-queries queries, 0 to 1."),
    ] = None,
    copy_distance: Annotated[
        float | None,
        typer.Option(help="Most that this copy may be beyond what classes alone give, 0 to 1."),
    ] = None,
    copy_queries: Annotated[
        int, typer.Option(help="Queries for --copy-accuracy and --copy-distance.")
    ] = DEFAULT_QUERIES,
    real_share: Annotated[
        float,
        typer.Option(help="Share of queries that are real, for the figures of a probation."),
    ] = 1.0,
    figure: Annotated[Path | None, typer.Option(help="Write a PNG of the front here.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find light, gain, block size and images to pool; or say what cannot be had, and why."""
    network = load_network(model)
    limits = Limits(weights_bits, data_bits, label_attack)
    copy_limit = CopyLimit(copy_accuracy, copy_distance, copy_queries)
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
        frequency_hz=frequency_thz * 1e12,
        local_oscillator_w=_power_w(lo_power_dbm),
    )
    # What cannot be run is refused before accuracy is measured.
    for layer in conditions.layers:
        transmission.slots(layer)
    labels = None
    if label_attack is not None:
        labels = load_curves(label_curve).curve(label_receiver)
    proof = Proof(
        VerificationSettings(failure_probability, false_alarm_probability),
        calibration_samples,
        bound_factor,
        bound_bits,
    )
    copies = PlannedCopies(
        network.sha256,
        network.name,
        carried(network).network.sizes,
        Hiding(decoys),
        verification=proof.verification,
    )
    mismatch = CloneMismatch(clone_gain_error, clone_phase_rad)
    spares: Callable[[Option], bool] | None = None
    if not copy_limit.none:
        plan_copies.require_measured(copies)
        spares = partial(copies.keeps, copy_limit, conditions)
    with interruptible():
        measured = _curve(network, images_of(data, images), runs, curve)
        search = Search(conditions)
        if labels is not None:
            overlap = mode_overlap(network, images_of(data, images).images)
            search = Search(conditions, labels, mismatch, overlap)
        search = replace(search, spares_copies=spares)
        planner = Planner(search, measured, transmission, proof)
        found = planner.plan(wish, on_step=_say_to_people)
    distribution = None
    if found.recommended is not None:
        distribution = look_at(network, found.recommended.option.mean_photons)
        require_not_told_apart(distribution, accepted=accept_discrete_weights)
    if figure is not None:
        plan_report.draw(figure, found, conditions.assumptions)
    told = plan_copies.found_copies(planner, found, copies, copy_limit, real_share)
    if json:
        looked = None if distribution is None else distribution.as_json()
        output.print_json(
            {
                **plan_report.as_json(planner, found),
                "weight_distribution": looked,
                **told.as_json(),
            }
        )
    else:
        plan_report.show(planner, found, model)
        told.show()
        if distribution is not None and distribution.discrete:
            output.people.print(f"weights: {distribution.statement()}")
    if found.recommended is None:
        raise LabctlError(told.refusal() or plan_report.refusal(planner, found))


def _say_to_people(step: str) -> None:
    """Say on a terminal what takes its time; a script's stderr is for errors."""
    if output.aside.is_terminal:
        output.say_step(step)


def _power_w(power_dbm: float | None) -> float | None:
    if power_dbm is None:
        return None
    if not -_MOST_DBM <= power_dbm <= _MOST_DBM:
        raise SettingError("--lo-power-dbm", power_dbm, f"-{_MOST_DBM:g} to {_MOST_DBM:g} dBm")
    return dbm_to_w(power_dbm)


def _curve(network: Network, images: LabelledImages, runs: int, file: Path | None) -> AccuracyCurve:
    """Return the accuracy curve from its file or the user's cache; measure it once for all."""
    path = file or curve_path(cache_folder(), network, images, runs)
    known = (cached_curve if file is None else known_curve)(path, network, images)
    if known is not None:
        return known
    with output.progress("accuracy curve", len(DEFAULT_GRID) * runs, "runs") as advance:
        measured = measure_curve(network, images, runs=runs, on_run=advance)
    try:
        save_curve(measured, path)
    except UsageError as problem:
        if file is not None:
            raise
        output.say_step(f"accuracy curve not kept: {problem}")
    return measured
