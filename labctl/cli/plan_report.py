"""A plan for people: settings, front and reasons as tables, sentences, JSON and a figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from labctl.cli import output
from labctl.protocols.labels.curve import load_curves
from labctl.protocols.labels.figures import in_words
from labctl.protocols.labels.reading import Detection
from labctl.protocols.leakage import MEAN_OVER_SESSION
from labctl.run.report import finite, leakage_json
from labctl.studies.planner.accuracy_curve import NeededF
from labctl.studies.planner.binding import BindingLimit, binding
from labctl.studies.planner.option import Option, PlanLimits
from labctl.studies.planner.plan import Plan, Planner, Setting
from labctl.studies.planner.pooling import ASSURANCE, Pool, SentBefore
from labctl.studies.planner.throughput import Throughput
from labctl.wording import at_most_percent, counted

# A terminal's page with the sentences around; --json has the whole front.
_ROWS = 14
# A share of the leakage below which a cause gets no sentence.
_NEGLIGIBLE = 0.02
# Accuracies alike but for rounding.
_SAME = 1e-6
# Settings that leak more than this many times the least at the same accuracy are not shown.
_FAR_MORE = 10.0


def show(planner: Planner, plan: Plan, model: str) -> None:
    """Print a plan for people."""
    if plan.recommended is not None:
        _show_setting(planner, plan, plan.recommended, model)
    output.table(
        f"Pareto front at {plan.wish.accuracy:.2%}, without the limits; weights: {_kind(planner)}",
        ["%", "G", "μ", "b", "bit/weight", "bit/datum", "labels", "images", "to prove"],
        [_row(one) for one in _spread(_of_interest(plan), _ROWS)],
        numeric=True,
    )
    for sentence in reasons(planner, plan):
        output.people.print(f"· {sentence}")
    output.people.print("assumes: " + "; ".join(spoken(planner, plan)), style="dim")


def as_json(planner: Planner, plan: Plan) -> dict[str, Any]:
    """Return a plan as plain values; what is not finite becomes null."""
    wish, reach = plan.wish, plan.reach
    within = {
        name: None if f is None else {"F": f, **_accuracy(planner, plan, f)}
        for name, f in (
            ("weights", reach.f_within_weights),
            ("data", reach.f_within_data),
            ("all", reach.f_within_all),
        )
    }
    return {
        "found": plan.recommended is not None,
        "wish": {
            "accuracy": wish.accuracy,
            "confidence": wish.confidence,
            "prefer": str(wish.prefer),
            **asdict(wish.limits),
        },
        "F_needed": finite(reach.needed._asdict()),
        "accuracy_curve": {
            "network_sha256": planner.curve.network_sha256,
            "images_sha256": planner.curve.images_sha256,
            "images": planner.curve.images,
            "runs": planner.curve.points[0].runs,
        },
        "recommended": _setting_json(plan.recommended),
        "pool_to_weights_limit": None if plan.pool_to_limit is None else asdict(plan.pool_to_limit),
        "front": [_setting_json(setting) for setting in plan.front],
        "reach": {
            "accuracy_of_the_network": reach.accuracy_at_best,
            "accuracy_within": within,
            "least_weights_bits": _option_json(reach.weights),
            "least_weights_bits_within_data_limits": _option_json(reach.weights_within_data),
            "least_data_bits_within_weights_limit": _option_json(reach.data_within_weights),
            "best_compromise": _option_json(reach.compromise),
        },
        "clone_gain_error": planner.search.mismatch.gain_error,
        "clone_phase_rad": planner.search.mismatch.phase_rad,
        "overlap_of_rows_and_images": planner.search.overlap,
        "weights_bits_by_cause": None if plan.shares is None else asdict(plan.shares),
        "limited_by": None if plan.shares is None else plan.shares.main,
        "reasons": list(reasons(planner, plan)),
        "assumptions": spoken(planner, plan),
    }


def reasons(planner: Planner, plan: Plan) -> Iterator[str]:
    """Yield in sentences what needs what, and what each limit and each pair leaves."""
    reach, limits = plan.reach, plan.wish.limits
    yield from _needs(plan)
    if reach.weights is not None:
        where = setting_words(reach.weights)
        yield f"that accuracy alone: {_weights(reach.weights)} at least ({where})"
    if limits.weights_bits is not None:
        wanted = f"weights ≤ {limits.weights_bits:g} bit alone"
        yield f"{wanted}: {_accuracy_up_to(planner, plan, reach.f_within_weights)}"
    if limits.on_data != PlanLimits():
        yield f"{_data_limits(limits)} alone: {_data_reach(planner, plan)}"
    if limits.weights_bits is not None and limits.on_data != PlanLimits():
        if reach.weights_within_data is not None:
            yield (
                f"that accuracy with {_data_limits(limits)}: "
                f"{_weights(reach.weights_within_data)} at least "
                f"({setting_words(reach.weights_within_data)})"
            )
        if math.isfinite(reach.needed.upper):
            yield f"that accuracy with weights ≤ {limits.weights_bits:g} bit: {_data_left(plan)}"
        reached = _accuracy_up_to(planner, plan, reach.f_within_all)
        yield f"all limits together: {reached}" + (
            f" ({setting_words(reach.compromise)})" if reach.compromise is not None else ""
        )
    yield from _causes(planner, plan)


def binding_limits(planner: Planner, plan: Plan) -> tuple[BindingLimit, ...]:
    """Return which limits no setting of the accuracy keeps; none where the accuracy fails."""
    most = plan.reach.needed.upper
    if plan.recommended is not None or not math.isfinite(most):
        return ()
    return binding(planner.search, most, plan.wish.limits)


def refusal(planner: Planner, plan: Plan, limits_at_fault: tuple[BindingLimit, ...] = ()) -> str:
    """Return in one sentence that the wish cannot be reached, why, and the best compromise.

    `limits_at_fault`: see `binding_limits`.
    """
    wish, reach, limits = plan.wish, plan.reach, plan.wish.limits
    if not math.isfinite(reach.needed.upper):
        return (
            f"accuracy {wish.accuracy:g} with {wish.confidence:.0%} confidence is beyond the "
            f"network: {reach.accuracy_at_best:.2%} at best"
        )
    asked = [
        *(["this limit on copies"] if planner.search.spares_copies is not None else []),
        *([f"weights ≤ {limits.weights_bits:g} bit"] if limits.weights_bits is not None else []),
        *([_data_limits(limits)] if limits.on_data != PlanLimits() else []),
    ]
    parts = []
    if reach.compromise is not None:
        parts.append(
            f"within the limits {_accuracy_up_to(planner, plan, reach.f_within_all)} "
            f"({setting_words(reach.compromise)})"
        )
    if reach.weights_within_data is not None:
        parts.append(
            f"at the accuracy asked {_weights(reach.weights_within_data)} "
            f"({setting_words(reach.weights_within_data)})"
        )
    elif reach.weights is not None:
        parts.append(
            f"at the accuracy asked {_weights(reach.weights)} and "
            f"{reach.weights.data_bits:.3g} bit per datum ({setting_words(reach.weights)})"
        )
    cause = f"; limited by {plan.shares.main}" if plan.shares is not None else ""
    best = ", or ".join(parts) or "no light reaches the client's receiver"
    fault = ""
    if limits_at_fault:
        together = "alone" if len(limits_at_fault) == 1 else "together"
        named = " and ".join(limits_at_fault)
        fault = f"no setting keeps {named} {together} at that accuracy; "
    return (
        f"accuracy {wish.accuracy:g} with {' and '.join(asked) or 'this loss'} cannot be reached: "
        f"{fault}best compromise {best}{cause}"
    )


def spoken(planner: Planner, plan: Plan) -> list[str]:
    """Return what the plan assumes, in words."""
    verification = planner.proof.verification
    return [
        *planner.search.conditions.assumptions.sentences(),
        f"bounds fail with {verification.failure_probability:g}, honest light passes them in "
        f"{ASSURANCE:.0%} of sessions; the verifier's efficiency and electronic noise are known, "
        "its shot-noise unit keeps while light is pooled",
        f"accuracy of {counted(planner.curve.images, 'image', 'images')}, "
        f"{counted(planner.curve.points[0].runs, 'run', 'runs')} each, "
        f"with {plan.wish.confidence:.0%} confidence for images like them",
        "energy: light of the weights alone, at the client's input; pilots, preamble, electronics "
        "left out, local oscillators stated apart if asked for",
    ]


def _show_setting(planner: Planner, plan: Plan, setting: Setting, model: str) -> None:
    option, throughput = setting.option, setting.throughput
    needed, kind = plan.reach.needed, _kind(planner)
    values = {
        "setting": f"G = {option.gain:.4g}, μ = {option.mean_photons:.4g}, blocks of "
        f"{counted(option.block_modes, 'mode', 'modes')}",
        "F": f"{option.signal_to_noise:.4g}; needed {_f(needed)}",
        "accuracy": f"{setting.accuracy:.2%}, {setting.accuracy_lower:.2%} or more with "
        f"{plan.wish.confidence:.0%} confidence",
        "weights": f"{option.leakage.weights_bits_prior_free:.4g} bit per real weight and query "
        f"(prior-free), {output.number(option.leakage.weights_bits_network)} for this network, "
        f"{option.leakage.weights_bits_per_real:.4g} honest; 1 bit after "
        f"{option.leakage.queries_per_bit_per_weight:.4g} queries (prior-free); "
        f"{MEAN_OVER_SESSION}",
        "data": f"{option.leakage.data_bits_first:.3g} (first), {option.data_bits:.4g} (journal), "
        f"{option.leakage.data_bits_quantum:.3g} (quantum limit) bit per symbol and input",
        "label reading": _labels(planner, setting),
        "times the same input": _repeats(planner, plan, setting),
        "to prove": f"{setting.bound_bits:.4g} bit per weight ({kind}): {_pool(setting.pool)}, "
        f"{_duration(setting.proof_s)} of light",
    }
    if setting.sent_before is not None:
        values["sent before the proof"] = _sent(setting.sent_before, kind)
    if plan.wish.limits.weights_bits is not None:
        values["to prove the limit"] = (
            f"{plan.wish.limits.weights_bits:g} bit per weight ({kind}): "
            f"{_pool(plan.pool_to_limit)}"
        )
    values["false alarms"] = _false_alarms(planner, setting)
    values["rate"] = (
        f"{throughput.inferences_per_s:.4g} inferences per s, {throughput.payload_share:.1%} of "
        "the slots are payload (the rest: preamble, guards, pilots, readout)"
    )
    values["light"] = _light(throughput)
    output.facts(f"{model}: {plan.wish.prefer} least", values)


def _repeats(planner: Planner, plan: Plan, setting: Setting) -> str:
    """Say how often one input may be sent, and at which mismatch if the label limits it."""
    if setting.repeats is None:
        return "any number: nothing limits it"
    text = f"at most {setting.repeats} within the limits"
    if plan.wish.limits.label_success is None:
        return text
    return f"{text}; {in_words(planner.search.mismatch)}"


def _kind(planner: Planner) -> str:
    """Return which figure of the weights a plan uses."""
    return str(planner.search.conditions.weights_figure)


def _sent(sent: SentBefore, kind: str) -> str:
    return (
        f"{counted(sent.images, 'image', 'images', '.3g')}: {sent.additive:.3g} bit per weight "
        f"({kind}) counted query by query; "
        f"at most {sent.honest:.3g} by an honest client's clones taken together, "
        f"{sent.anybody:.3g} by anybody who kept all of the light"
    )


def _light(throughput: Throughput) -> str:
    oscillators = throughput.local_oscillator_energy_j
    apart = "not counted" if oscillators is None else f"{oscillators:.3g} J per inference"
    return (
        f"{throughput.photons_at_client:.4g} photons, {throughput.energy_at_client_j:.3g} J per "
        f"inference at the client's input; {throughput.photons_per_mac:.3g} photons, "
        f"{throughput.energy_per_mac_j:.3g} J per multiply-accumulate ({throughput.macs} of them); "
        f"local oscillators {apart}"
    )


def _labels(planner: Planner, setting: Setting) -> str:
    """Say how often a label is read, at which mismatch, and how often by photon counting."""
    search, option = planner.search, setting.option
    if setting.label_success is None or search.labels is None:
        return "not asked for"
    text = (
        f"at most {at_most_percent(setting.label_success)} from one query by "
        f"{search.labels.receiver}; "
        f"{in_words(search.mismatch)}"
    )
    if not search.mismatch.matched:
        least = search.least_gain(option.signal_to_noise)
        text += f" (read least at G = {least:.4g})"
    if search.labels.receiver is Detection.COUNTING:
        return text
    counter = replace(search, labels=load_curves().curve(Detection.COUNTING))
    evidence = counter.label_evidence(option.gain, option.signal_to_noise)
    return (
        f"{text}; by photon counting at most {at_most_percent(counter.label_success(evidence), 0)}"
    )


def _false_alarms(planner: Planner, setting: Setting) -> str:
    chance = planner.proof.verification.false_alarm_probability
    words = f"{chance:g} per verdict"
    if not math.isfinite(setting.proof_s):
        return words
    return f"{words}; one verdict per pool: once in {_duration(setting.proof_s / chance)} of light"


def _pool(pool: Pool | None) -> str:
    if pool is None:
        return "no number of images does, for this shot-noise calibration"
    return (
        f"{counted(pool.images, 'image', 'images')} ({pool.samples:.3g} samples, "
        f"{pool.calibration_samples:.3g} of the shot-noise unit)"
    )


def _of_interest(plan: Plan) -> list[Setting]:
    """Return the front at the accuracy wanted without what is quick to prove but leaks far more."""
    rows = [one for one in plan.front if abs(one.accuracy_lower - plan.wish.accuracy) < _SAME]
    least = min((one.option.weights_bits for one in rows), default=0.0)
    return [one for one in rows if one.option.weights_bits <= _FAR_MORE * least]


def _row(setting: Setting) -> list[str]:
    option = setting.option
    return [
        f"{100.0 * setting.accuracy_lower:.4g}",
        f"{option.gain:.4g}",
        f"{option.mean_photons:.3g}",
        str(option.block_modes),
        f"{option.weights_bits:.3g}",
        f"{option.data_bits:.2g}",
        "–" if setting.label_success is None else f"{setting.label_success:.0%}",
        "–" if setting.pool is None else f"{setting.pool.images:.3g}",
        _duration(setting.proof_s),
    ]


def _needs(plan: Plan) -> Iterator[str]:
    needed, wish = plan.reach.needed, plan.wish
    if not math.isfinite(needed.upper):
        yield (
            f"accuracy {wish.accuracy:.2%} is beyond the network: "
            f"{plan.reach.accuracy_at_best:.2%} at best with {wish.confidence:.0%} confidence"
        )
        return
    yield (
        f"accuracy {wish.accuracy:.2%} needs F = {_f(needed)}; F = {needed.upper:.4g} has it with "
        f"{wish.confidence:.0%} confidence"
    )


def _causes(planner: Planner, plan: Plan) -> Iterator[str]:
    """Say what each imperfection costs at the setting, if it costs anything, and what limits."""
    shares, asked = plan.shares, planner.search.conditions
    if shares is None:
        return
    costs = (
        (f"the loss of {asked.loss_db:g} dB, untrusted,", shares.trusting_loss),
        (f"technical noise of {asked.technical_noise:g} SNU, untrusted,", shares.trusting_noise),
        ("loss in the client's rotation", shares.ideal_rotation),
    )
    for what, left in costs:
        cost = shares.weights_bits - left
        if cost > _NEGLIGIBLE * shares.weights_bits:
            whole = f"{shares.weights_bits:.3g} bit per weight ({_kind(planner)})"
            yield f"{what} alone costs {cost:.3g} of {whole}"
    yield f"limited by {shares.main}"


def _data_reach(planner: Planner, plan: Plan) -> str:
    reach = plan.reach
    if reach.f_within_data is None:
        return "no gain is small enough"
    gains = [
        planner.search.greatest_gain(size, plan.wish.limits.on_data, reach.f_within_data)
        for size in planner.search.block_sizes
    ]
    most = max(gain for gain in gains if gain is not None)
    return f"G ≤ {most:.4g}, {_accuracy_up_to(planner, plan, reach.f_within_data)}"


def _data_left(plan: Plan) -> str:
    option = plan.reach.data_within_weights
    if option is None:
        return "not at any gain"
    return f"{option.data_bits:.3g} bit per datum at least ({setting_words(option)})"


def _accuracy_up_to(planner: Planner, plan: Plan, most_f: float | None) -> str:
    curve, confidence = planner.curve, plan.wish.confidence
    if most_f is None:
        return f"not even F = {curve.least_f:g}, the least that was measured"
    if most_f >= curve.most_f:
        return f"any accuracy of the network, {plan.reach.accuracy_at_best:.2%} at best"
    return (
        f"accuracy up to {curve.accuracy_lower(most_f, confidence):.2%} (best value "
        f"{curve.accuracy(most_f):.2%}) at F = {most_f:.4g}"
    )


def _accuracy(planner: Planner, plan: Plan, signal_to_noise: float) -> dict[str, float]:
    curve = planner.curve
    return {
        "accuracy": curve.accuracy(signal_to_noise),
        "accuracy_uncertainty": curve.uncertainty(signal_to_noise),
        "accuracy_lower": curve.accuracy_lower(signal_to_noise, plan.wish.confidence),
    }


def _data_limits(limits: PlanLimits) -> str:
    parts = []
    if limits.data_bits is not None:
        parts.append(f"data ≤ {limits.data_bits:g} bit")
    if limits.label_success is not None:
        parts.append(f"label reading ≤ {limits.label_success:.1%}")
    return " and ".join(parts)


def _option_json(option: Option | None) -> dict[str, Any] | None:
    if option is None:
        return None
    return {
        "F": option.signal_to_noise,
        "mu": option.mean_photons,
        "gain": option.gain,
        "block_modes": option.block_modes,
        "label_evidence": option.label_evidence,
        "leakage": leakage_json(option.leakage, queries=1),
    }


def _setting_json(setting: Setting | None) -> dict[str, Any] | None:
    if setting is None:
        return None
    throughput = setting.throughput
    return finite(
        {
            **(_option_json(setting.option) or {}),
            "accuracy": setting.accuracy,
            "accuracy_lower": setting.accuracy_lower,
            "label_success_upper": setting.label_success,
            "input_repeats": setting.repeats,
            "bound_bits": setting.bound_bits,
            "pool": None if setting.pool is None else asdict(setting.pool),
            "sent_before_proof": None
            if setting.sent_before is None
            else asdict(setting.sent_before),
            "proof_s": setting.proof_s,
            "throughput": {
                **asdict(throughput),
                "inferences_per_s": throughput.inferences_per_s,
                "photons_per_mac": throughput.photons_per_mac,
                "energy_per_mac_j": throughput.energy_per_mac_j,
            },
        }
    )


def _weights(option: Option) -> str:
    return f"{option.weights_bits:.3g} bit per weight ({option.weights_figure})"


def setting_words(option: Option) -> str:
    """Return gain, light and block size on one line."""
    return f"G = {option.gain:.4g}, μ = {option.mean_photons:.3g}, b = {option.block_modes}"


def _f(needed: NeededF) -> str:
    return f"{needed.value:.3g} ± {needed.standard_uncertainty:.1g}"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "–"
    for unit, size in (("years", 3.156e7), ("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.0 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _spread(settings: Sequence[Setting], most: int) -> list[Setting]:
    """Return at most `most` of them, the first and the last included."""
    if len(settings) <= most:
        return list(settings)
    return [settings[round(at * (len(settings) - 1) / (most - 1))] for at in range(most)]
