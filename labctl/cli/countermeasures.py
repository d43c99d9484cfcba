"""`labctl countermeasures`: what each countermeasure does at a setting, measured in seconds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from labctl import checks
from labctl.cli import link_options, options, output
from labctl.cli.choices import assumptions
from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import load_network
from labctl.protocols.carried import carried
from labctl.protocols.disguise import PLAIN
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.leakage import Trust
from labctl.protocols.receiver import IDEAL_HOMODYNE, ReceiverKind, receiver_of
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.safety import interruptible
from labctl.studies.countermeasures.decoys import DecoyHiding, HiddenReading, weights_bits
from labctl.studies.countermeasures.quota import Quota, quota
from labctl.studies.countermeasures.survey import Effect, Survey
from labctl.wording import counted

# The 10,000 shipped test images in parts: 6,000 to attack, 2,000 for decoys, 2,000 public
# templates.
_TEMPLATES = 2000
_POOL = slice(6000, 8000)
_MOST_IMAGES = 6000
# Doubled: labels are read less in proportion to 1/(J + 1).
_FIGURE_DECOYS = (0, 1, 2, 4, 8)


def countermeasures(
    mu: options.Mu = 0.57,
    gain: options.Gain = 1.3,
    model: options.Model = "noise-aware",
    receiver: link_options.Receiver = ReceiverKind.AMPLIFIER,
    images: options.Images = 200,
    bits_limit: Annotated[
        float, typer.Option(help="Maximum of all queries together in bits per weight, honest.")
    ] = 1.0,
    correlation_limit: Annotated[
        float,
        typer.Option(
            help="Maximum correlation of what chosen inputs extract with the weights, 0 to 1."
        ),
    ] = 0.5,
    seed: options.Seed = 1,
    figure: options.OptionalFigure = None,
    json: options.Json = False,
) -> None:
    """Measure what each countermeasure does at a setting without loss, and compute a quota.

    The figure shows disguise and decoys.
    """
    output.require_png(figure)
    survey = _survey(model, images, _settings(mu, gain, receiver, seed))
    allowed = _quota(survey, bits_limit, correlation_limit)
    effects: list[Effect] = []
    with interruptible() as check:
        for effect in survey.effects():
            effects.append(effect)
            output.say_step(f"{effect.countermeasure}: {effect.figure}")
            check()
        if figure is not None:
            _draw(survey, figure)
    spoken = list(survey.settings.assumptions.sentences())
    if json:
        output.print_json(
            {
                "effects": [asdict(effect) for effect in effects],
                "quota": {**asdict(allowed), "queries": allowed.queries},
                "signal_to_noise": survey.settings.signal_to_noise,
                "repeats": [asdict(one) for one in survey.repeats()],
                "images": len(survey.images.labels),
                "templates": len(survey.templates.labels),
                "seed": seed,
                "assumptions": spoken,
            }
        )
        return
    output.table(
        f"Countermeasures at μ = {mu:g}, G = {gain:g}, F = {survey.settings.signal_to_noise:.3g}",
        ["countermeasure", "figure", "without", "with", "remark"],
        [_row(effect) for effect in effects],
    )
    output.people.print(
        f"quota: {counted(allowed.queries, 'query', 'queries')} ({allowed.by_bits} for "
        f"{bits_limit:g} bit per weight of an honest client, "
        f"{allowed.by_extraction} for correlation {correlation_limit:g})"
    )
    output.people.print("assumes: no loss; " + "; ".join(spoken), style="dim")


def _survey(model: str, images: int, settings: SessionSettings) -> Survey:
    checks.within("images", images, 1, _MOST_IMAGES)
    found, sent = load_test_images(), carried(load_network(model))
    fed = sent.inputs.taken(found.images)
    return Survey(
        sent.network,
        settings,
        LabelledImages(fed[:images], found.labels[:images]),
        LabelledImages(fed[-_TEMPLATES:], found.labels[-_TEMPLATES:]),
        LabelledImages(fed[_POOL], found.labels[_POOL]),
    )


def _settings(mu: float, gain: float, receiver: ReceiverKind, seed: int) -> SessionSettings:
    return SessionSettings(
        light=Light(mu, PLAIN),
        channel=Channel(),
        receiver=receiver_of(receiver, gain, 1.0, IDEAL_HOMODYNE),
        verifier=IDEAL_HOMODYNE,
        assumptions=assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
        sampling=Sampling.MEASURED,
        seed=seed,
    )


def _quota(survey: Survey, bits_limit: float, correlation_limit: float) -> Quota:
    settings = survey.settings
    per_query = weights_bits(
        DecoyHiding(),
        mean_photons=settings.light.mean_photons,
        receiver=settings.receiver,
        modes=survey.modes,
        assumptions=settings.assumptions,
    )
    return quota(
        bits_limit=bits_limit,
        bits_per_query=per_query,
        correlation_limit=correlation_limit,
        inputs=survey.network.sizes[0],
        signal_to_noise=settings.signal_to_noise,
    )


def _draw(survey: Survey, path: Path) -> None:
    from labctl.studies.countermeasures.figure import figure_of_effects

    settings = survey.settings
    reading = Reading(
        gain=settings.receiver.gain,
        rows=survey.rows,
        emission_factor=settings.receiver.emission_factor,
        receiver=Detection.HETERODYNE,
    )
    server = HiddenReading(survey.templates, reading)
    points = []
    for decoys in _FIGURE_DECOYS:
        hiding = DecoyHiding(decoys=decoys)
        bits = weights_bits(
            hiding,
            mean_photons=settings.light.mean_photons,
            receiver=settings.receiver,
            modes=survey.modes,
            assumptions=settings.assumptions,
        )
        share = server.success(survey.images, survey.pool, hiding, settings.seed)
        points.append((decoys, bits, share))
    note = (
        f"μ = {settings.light.mean_photons:g}, G = {settings.receiver.gain:g}, no loss; loss and "
        f"noise untrusted; {counted(len(survey.images.labels), 'image', 'images')}, "
        f"{len(survey.templates.labels)} templates"
    )
    figure_of_effects(path, survey.repeats(), points, note)


def _row(effect: Effect) -> list[str]:
    return [
        effect.countermeasure,
        effect.figure,
        output.number(effect.without, 3),
        output.number(effect.with_it, 3),
        effect.remark,
    ]
