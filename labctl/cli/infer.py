"""`labctl infer`: classify images privately and report accuracy, leakage and verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from labctl.cli import link_options, options, output
from labctl.cli.choices import (
    assumptions,
    images_of,
    refuse_given,
)
from labctl.cli.decoy_pictures import pictures_for
from labctl.cli.infer_request import (
    LinkOptions,
    Reserve,
    bench_run,
    hiding_of,
    ledger_of,
    probation_of,
)
from labctl.cli.verdicts import end_if_rejected, reported
from labctl.data.models import load_network
from labctl.errors import BudgetError
from labctl.protocols.disguise import Disguise
from labctl.protocols.hiding.hiding import OPEN, require_decoys
from labctl.protocols.labels.figures import in_words
from labctl.protocols.leakage import MEAN_OVER_SESSION, Trust
from labctl.protocols.leakage.cumulative import IN_WORDS
from labctl.protocols.receiver import ReceiverKind
from labctl.protocols.settings import Light, Sampling, VerificationSettings
from labctl.run.report import Report
from labctl.run.request import Asked, Common, LinkLevel, Stale
from labctl.shares import share_in_words
from labctl.wording import at_most_percent, counted


def infer(
    link: Annotated[
        LinkLevel, typer.Option(help="Simulated light modes, or the instruments of a station.")
    ] = LinkLevel.MODE,
    images: options.Images = 100,
    model: options.Model = "noise-aware",
    mu: options.Mu = 0.57,
    gain: options.Gain = 1.3,
    loss_db: options.OptionalLossDb = None,
    loss: link_options.LossTrust = Trust.UNTRUSTED,
    technical_noise: options.OptionalTechnicalNoise = None,
    noise: link_options.NoiseTrust = Trust.UNTRUSTED,
    sample: Annotated[
        Sampling,
        typer.Option(
            help="Simulate the measured values alone, or all returned modes too.",
            rich_help_panel=options.STATISTICS,
        ),
    ] = Sampling.ALL,
    seed: options.Seed = 0,
    station: options.OptionalStation = None,
    data: options.OptionalData = None,
    efficiency: options.OptionalEfficiency = None,
    electronic_noise: options.OptionalElectronicNoise = None,
    noise_figure_db: options.OptionalNoiseFigureDb = None,
    receiver: link_options.Receiver = ReceiverKind.AMPLIFIER,
    block_modes: options.OptionalBlockModes = None,
    rotation_loss_db_per_mode: options.OptionalRotationLoss = None,
    coupler_error_rad: options.OptionalCouplerError = None,
    phase_error_rad: options.OptionalPhaseError = None,
    permute: Annotated[
        bool,
        typer.Option(
            help="Send hidden neurons in a fresh order for every image: delays a thief who links "
            "values of many queries; not a bound.",
            rich_help_panel=options.CLIENT,
        ),
    ] = True,
    signs: Annotated[
        bool,
        typer.Option(
            "--signs",
            help="Flip the signs of hidden neurons at random for every image; costs much accuracy "
            "with networks of rectifiers at low F.",
            rich_help_panel=options.CLIENT,
        ),
    ] = False,
    probation: Annotated[
        int,
        typer.Option(
            help="Number of queries with the weights of --stand-in before the first real one.",
            rich_help_panel=options.CLIENT,
        ),
    ] = 0,
    real_share: options.RealShare = 1.0,
    stand_in: Annotated[
        str | None,
        typer.Option(
            help="Public network of the same shape and task, whose weights are worth nothing.",
            rich_help_panel=options.CLIENT,
        ),
    ] = None,
    decoys: options.OptionalDecoys = None,
    decoy_images: Annotated[
        str | None,
        typer.Option(
            help="Folder of idx test images that the server does not have, or a task's name, to "
            "take decoys from (default: images of --data that are not sent; those of the shipped "
            "set are public).",
            rich_help_panel=options.CLIENT,
        ),
    ] = None,
    return_modes: Annotated[
        int | None,
        typer.Option(
            help="Number of public modes to clone for any input, so that the returned "
            "light does not depend on it (MNIST: 50). Leaks much more of the weights.",
            rich_help_panel=options.CLIENT,
        ),
    ] = None,
    hidden_return_modes: Annotated[
        int | None,
        typer.Option(
            help="The same number in hidden layers, with --return-modes (default: all modes).",
            rich_help_panel=options.CLIENT,
        ),
    ] = None,
    clone_gain_error: options.OptionalCloneGainError = None,
    clone_phase_rad: options.OptionalClonePhase = None,
    local_oscillator: link_options.OptionalLocalOscillator = None,
    linewidth_hz: options.OptionalLinewidth = None,
    signal_linewidth_hz: options.OptionalSignalLinewidth = None,
    calibrations: options.Calibrations = options.DEFAULT_CALIBRATIONS,
    stale: Annotated[
        Stale,
        typer.Option(
            help="What to do about bench calibrations that do not apply: measure them now, refuse "
            "to run, or use them (the result then says so).",
            rich_help_panel=options.RESULTS,
        ),
    ] = Stale.CALIBRATE,
    weights_bits_limit: options.OptionalWeightsBitsLimit = None,
    failure_probability: options.FailureProbability = 1e-10,
    false_alarm_probability: options.FalseAlarmProbability = 1e-6,
    ledger: options.OptionalLedger = None,
    client: options.OptionalClient = None,
    client_key: options.OptionalClientKey = None,
    budget_bits: Annotated[
        float | None,
        typer.Option(
            help="New budget of the client on this model, in bits per real weight; raised only "
            "with --operator-keys.",
            rich_help_panel=options.LEDGER,
        ),
    ] = None,
    operator_keys: options.OptionalOperatorKeys = None,
    reserve: Annotated[
        Reserve,
        typer.Option(
            help="Bits that the ledger reserves before light is sent: all that a client who keeps "
            "all light could learn, or an honest client's share.",
            rich_help_panel=options.LEDGER,
        ),
    ] = Reserve.EVERYTHING,
    accept_discrete_weights: options.AcceptDiscreteWeights = False,
    runs: options.Runs = options.DEFAULT_RUNS,
    json: options.Json = False,
) -> None:
    """Classify images by the quantum-secure protocol, and verify the returned light.

    The mode link is ideal (no loss or noise) unless options say otherwise. On the bench link the
    station decides loss, noise, receivers, rotation and clone: options for these are refused, as
    are --return-modes. --station is the shipped laboratory unless given. --decoys is 3 with
    --decoy-images, else 0; a bench's rotation unit needs DECOYS + 1 turns. Without
    --clone-gain-error the clone is matched, and figures for labels are stated at 0.002. Without
    --ledger the run is entered in no ledger.
    """
    modes = LinkOptions(
        loss_db=loss_db,
        technical_noise=technical_noise,
        efficiency=efficiency,
        electronic_noise=electronic_noise,
        noise_figure_db=noise_figure_db,
        block_modes=block_modes,
        rotation_loss_db_per_mode=rotation_loss_db_per_mode,
        coupler_error_rad=coupler_error_rad,
        phase_error_rad=phase_error_rad,
        clone_gain_error=clone_gain_error,
        clone_phase_rad=clone_phase_rad,
        local_oscillator=local_oscillator,
        linewidth_hz=linewidth_hz,
        signal_linewidth_hz=signal_linewidth_hz,
    )
    if link is LinkLevel.BENCH:
        given = {**modes.by_option(), "--return-modes": return_modes}
        refuse_given(given, "the bench link: the station and its light decide")
    else:
        refuse_given({"--station": station}, "the mode link: it has no instruments")
    network = load_network(model)
    require_decoys(decoys or 0, network.sizes[-1])
    hiding = hiding_of(decoys, decoy_images, return_modes, hidden_return_modes)
    common = Common(
        network=network,
        images=images_of(data, images),
        runs=runs,
        light=Light(mu, Disguise(permute, signs)),
        assumptions=assumptions(loss, noise),
        sampling=sample,
        verification=VerificationSettings(
            failure_probability=failure_probability,
            false_alarm_probability=false_alarm_probability,
            weights_bits_limit=weights_bits_limit,
        ),
        hiding=hiding,
        pictures=None
        if hiding == OPEN
        else pictures_for(data, images, decoy_images, hiding=hiding, inputs=network.sizes[0]),
        ledger=ledger_of(
            ledger, client, budget_bits, reserve, client_key=client_key, operator_keys=operator_keys
        ),
        probation=probation_of(probation, real_share, stand_in),
        accept_discrete_weights=accept_discrete_weights,
        seed=seed,
    )
    if link is LinkLevel.BENCH:
        asked: Asked = bench_run(common, receiver, station, calibrations, gain, stale)
    else:
        asked = modes.run(common, receiver, gain)
    with output.progress("inference", images, "images") as advance:
        report, late = reported(asked, on_images=advance, on_step=output.say_step)
    if json:
        output.print_json(report.as_json())
    else:
        show(report)
    if late is not None:
        raise late
    _end(report, images)


def _end(report: Report, images: int) -> None:
    """End as the run did: stopped by a budget, rejected, or well."""
    if report.stopped is not None:
        stopped = stopped_early(report, images)
        if report.verification.accepted is not False:
            raise stopped
        output.aside.print(f"error: {stopped}", soft_wrap=True)
    end_if_rejected(report)


def stopped_early(report: Report, images: int) -> BudgetError:
    """Return the error of a run that a budget ended before its last image."""
    wanted = counted(images, "image", "images")
    return BudgetError(f"stopped after {report.images} of {wanted}: {report.stopped}")


def show(report: Report) -> None:
    """Print a report for people."""
    values = report.as_json()
    leak, verdict = values["leakage"], values["verification"]
    accepted = {True: "accepted", False: "REJECTED", None: "not verified"}[verdict["accepted"]]
    output.facts(
        f"{report.model} over {counted(report.images, 'image', 'images')}, {report.link} link",
        {
            "accuracy": f"{share_in_words(report.accuracy, report.images, 2)}, interval of 95 %",
            **_prediction(report),
            "setting": f"μ = {values['mu']:g}, G = {values['gain']:g}, F = {values['F']:.3g}",
            **_parameters(report),
            **_phases(report),
            "calibration": _rests_on(report),
            "weights": weights_line(leak) + _unless_discrete(report),
            "weights, bound": f"{output.number(verdict['weights_bits_prior_free_upper'])} bit per "
            f"real weight (prior-free), {output.number(verdict['weights_bits_network_upper'])} for "
            f"this network, {output.number(verdict['weights_bits_honest_upper'])} by the honest "
            f"prior, from {verdict['samples']} returned samples "
            f"(failure probability {verdict['failure_probability']:g}); {MEAN_OVER_SESSION}",
            **_under_trust(report),
            **_together(report),
            "data": f"{leak['data_bits_first']:.3g} (first), {leak['data_bits_journal']:.3g} "
            f"(journal), {leak['data_bits_quantum']:.3g} (quantum limit) bit per symbol",
            "data, per input": f"{leak['data_bits_first_per_input']:.3g}, "
            f"{leak['data_bits_journal_per_input']:.3g}, "
            f"{leak['data_bits_quantum_per_input']:.3g} bit",
            **_hidden(report),
            "assumes": "\n".join(leak["assumptions"]["in_words"]),
            "verdict": f"{accepted}: {verdict['reason']}",
            "transmittance": output.number(verdict["transmittance"], 5),
            "excess noise": f"{output.number(verdict['excess_noise'])} ± "
            f"{output.number(verdict['excess_noise_standard_error'], 2)} SNU, below "
            f"{output.number(verdict['excess_noise_upper'])}",
            **_watched(report),
            **_labels(report),
            **_best_copy(report),
            **_booked(report),
            "time": f"{report.seconds:.2f} s",
            **{f"run file, {name}": path for name, path in report.run_files.as_json().items()},
        },
    )


def _hidden(report: Report) -> dict[str, str]:
    """Say how the input is hidden, and what that is worth."""
    hiding = report.settings.hiding
    if hiding.return_modes is not None:
        return {"label": "what returns does not depend on the input, for any light and any reading"}
    price = report.decoys_price
    if price is None:
        return {}
    bits = (
        f"{output.number(price['weights_bits_prior_free'])} bit per real weight and query "
        f"(prior-free), {output.number(price['weights_bits_network'])} for this network, "
        f"{output.number(price['weights_bits_per_real'])} honest"
    )
    if report.label_cap is None:
        return {
            "label, with decoys": f"--decoys {price['decoys']} keeps any reader to "
            f"{at_most_percent(price['label_cap'])} of labels and makes the weights {bits}"
        }
    return {
        "label": f"any reader names at most {at_most_percent(report.label_cap)} of labels: "
        f"{counted(hiding.decoys, 'decoy', 'decoys')} that the server does not hold, classes "
        f"equally frequent, the same image sent again the very same; weights then {bits}"
    }


def _together(report: Report) -> dict[str, str]:
    """Say what all queries of the run revealed about the weights, under each assumption."""
    found = report.cumulative
    if found is None:
        return {}
    values, names = found.as_json(), {"additive", "memory_unchecked", "collective_upper"}
    lines = [
        f"{values[name]:.4g} ({name}): {IN_WORDS[name]}"
        for name in IN_WORDS
        if name in names - {found.headline} and values[name] is not None
    ]
    sent = counted(found.queries, "query", "queries")
    first = f"{found.bits:.4g} bit per real weight (prior-free) after {sent}"
    cell = "\n".join([f"{first}: {IN_WORDS[found.headline]}", *lines])
    if found.slack is not None and found.collective_upper is not None:
        cell += f"\ncollective_upper: {found.slack.in_words(found.collective_upper)}"
    return {"weights, all queries": cell}


def _unless_discrete(report: Report) -> str:
    """Say beside the figure if it does not hold for such weights."""
    found = report.distribution
    return "" if found is None or not found.discrete else f"\n{found.statement()}"


def weights_line(leakage: Mapping[str, float | None]) -> str:
    """Say the three figures of one query of a client that adds the honest noise, by name."""
    return (
        f"{output.number(leakage['weights_bits_prior_free'])} bit per real weight and query "
        f"(prior-free), {output.number(leakage['weights_bits_network'])} for this network, "
        f"{output.number(leakage['weights_bits_per_real'])} honest; "
        f"{MEAN_OVER_SESSION}"
    )


def _rests_on(report: Report) -> str:
    """Say what records a bench run rests on, and what is doubtful about them."""
    if report.calibration is None:
        return "none: an exact link of the settings given"
    records, doubts = report.calibration["records"], report.calibration["doubts"]
    lines = [f"{len(records)} records"]
    lines += [f"{routine} {why}" for routine, why in doubts.items()]
    return "\n".join(lines)


def _labels(report: Report) -> dict[str, str]:
    """Say how often a curious server reads a label, by any receiver, and at which mismatch."""
    if not report.labels:
        return {}
    read = ", ".join(
        f"{each.receiver} {'at least ' if each.at_least else ''}{each.success:.0%}"
        for each in report.labels
    )
    return {"label read, once sent": f"{read}; {in_words(report.labels[0].mismatch)}"}


_NAMES = {
    "mean_photons": "measured μ",
    "gain": "measured G",
    "transmittance": "measured T",
    "excess_noise": "measured ε",
}


def _parameters(report: Report) -> dict[str, str]:
    """Say what a bench session was really run at."""
    if report.parameters is None:
        return {}
    return {
        _NAMES[name]: f"{quantity} (standard uncertainty)"
        for name, quantity in report.parameters.known().items()
    }


def _phases(report: Report) -> dict[str, str]:
    """Say how well a client with its own laser knows the phases of its values."""
    own, phase_rad2 = report.settings.oscillator, report.phase_rad2
    if own is None or phase_rad2 is None:
        return {}
    return {
        "local oscillator": f"the client's own laser, {own.linewidth_hz:g} Hz (signal "
        f"{own.signal_linewidth_hz:g} Hz): phases known to {phase_rad2:.3g} rad²; F includes it"
    }


def _under_trust(report: Report) -> dict[str, str]:
    """Say what the returned light means under each assumption, bit per real weight."""
    lines = [
        f"loss {each.assumptions.loss}, technical noise {each.assumptions.technical_noise}: "
        f"{each.bits_at_estimate:.3g}, at most {each.bits_upper:.3g}"
        for each in report.weights_under_trust
        if each.bits_at_estimate is not None and each.bits_upper is not None
    ]
    return {"weights, prior-free by T and ε": "\n".join(lines)} if lines else {}


def _watched(report: Report) -> dict[str, str]:
    """Say how many worthless queries went before and between those that served."""
    if report.probation is None:
        return {}
    found = report.probation
    first = counted(found["practice_queries"], "worthless query", "worthless queries")
    return {
        "probation": f"{first} first, "
        f"{found['worthless_queries']} between {found['served_queries']} real ones "
        f"(share {found['real_share']:g}); weights of {found['stand_in']}"
    }


def _best_copy(report: Report) -> dict[str, str]:
    """Say what a stolen copy is worth beside what any service gives away."""
    if report.best_copy is None:
        return {}
    counts = (
        "this run's queries alone, judged together"
        if report.ledger is None
        else "all queries of this client's account, each with the noise that hides in a session of "
        "one: sessions may have been that short"
    )
    return {"best copy": f"{report.best_copy.in_words()}; counts {counts}"}


def _booked(report: Report) -> dict[str, str]:
    """Say what the ledger charged, and what is left of the budget."""
    if report.ledger is None:
        return {}
    ledger, meter = report.ledger, "bits_per_weight"
    budget, left = ledger["budget"].get(meter), ledger["queries_left"]
    fitting = (
        "any number of more queries fit"
        if left is None
        else counted(left, "more query fits", "more queries fit")
    )
    return {
        "ledger": f"{ledger['charged'].get(meter, 0.0):.4g} bit per real weight (prior-free) "
        "charged for "
        f"{counted(ledger['queries'], 'query', 'queries')} ({ledger['basis_in_words']})",
        f"account of {ledger['client']}": f"{ledger['spent'].get(meter, 0.0):.4g} spent, "
        f"{ledger['reserved'].get(meter, 0.0):.4g} reserved, of {output.number(budget)}; "
        f"{fitting}",
    }


def _prediction(report: Report) -> dict[str, str]:
    if report.predicted_accuracy is None:
        return {}
    return {"predicted": f"{report.predicted_accuracy:.2%} by an exact link of what was measured"}
