"""Figures of a run beyond its verdict: cumulative leakage, labels, decoys, predicted accuracy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from labctl.protocols.disguise import PLAIN
from labctl.protocols.hiding.decoys import Decoys
from labctl.protocols.hiding.hiding import (
    ASSUMED_GUESS_ERROR,
    DEFAULT_DECOYS,
    OPEN,
    reading_cap,
)
from labctl.protocols.labels.figures import (
    TYPICAL_MISMATCH,
    LabelFigure,
    label_figures,
    supported_mismatches,
)
from labctl.protocols.leakage import Trust, spectrum_of
from labctl.protocols.leakage.cumulative import (
    AssumedChannel,
    Cumulative,
    Likely,
    cumulative,
    unseen,
)
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.probation.run import QueryKind
from labctl.protocols.server.verifier import Verifier
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.protocols.verification.verdict import VerificationReport
from labctl.run.opening import OpenRun, collection_of
from labctl.run.request import Asked, ModeRun
from labctl.run.serving import BATCH_IMAGES

# Their mean scatters by a quarter of what one session's accuracy does.
_PREDICTIONS = 16


def cumulative_of(
    verifier: Verifier,
    settings: SessionSettings,
    verification: VerificationReport,
    queries: int,
    light_factor: float = 1.0,
) -> Cumulative:
    """Return what all queries of a run leaked of the weights, by the evidence that the run kept.

    A weight that rides on several quadratures of a query is that many queries of it. light_factor:
    true over stated light, at most, where nobody looked at it.
    """
    carriers = max(part.carriers for part in verifier.server.own_evidence)
    found, bounds = verification.collective, verification.bounds
    proven = verification.collective_bounds
    if found is None or bounds is None or proven is None:
        together = unseen(queries * carriers, light_factor * settings.light.mean_photons)
        return replace(together, queries=queries)
    at_estimate = AssumedChannel(
        transmittance=verification.transmittance or 0.0,
        technical_noise=settings.channel.technical_noise,
        assumptions=settings.assumptions,
        client_transmittance=verifier.expectation().client_transmittance,
    )
    at_bound = replace(at_estimate, transmittance=proven.round_trip.transmittance)
    noise, upper = bounds.round_trip.excess_noise, proven.round_trip.excess_noise
    likely = Likely(at_estimate)
    if settings.assumptions.loss is Trust.TRUSTED:
        # Trusted is the loss of the link as calibrated and no more; see `verification.bounds`.
        noise, link = bounds.in_client.excess_noise, bounds.link_transmittance
        upper = proven.in_client.excess_noise
        at_bound = AssumedChannel(
            transmittance=proven.in_client.transmittance,
            technical_noise=settings.channel.technical_noise / link,
            assumptions=replace(settings.assumptions, loss=Trust.UNTRUSTED),
        )
        share = min(at_estimate.transmittance / link, 1.0)
        likely = Likely(replace(at_bound, transmittance=share), 1.0 / link)
    together = cumulative(
        at_estimate,
        queries=queries * carriers,
        mean_photons=settings.light.mean_photons,
        mean_photons_upper=proven.mean_photons,
        excess_noise=noise,
        collective_noise=max(found.estimate, 0.0),
        collective_noise_upper=upper,
        confident=at_bound,
        likely=likely,
    )
    return replace(together, queries=queries)


def probation_json(request: Asked, run: OpenRun) -> dict[str, Any] | None:
    """Return what was asked of the client before and while it was served, None if nothing."""
    wanted = request.probation
    if wanted is None:
        return None
    return {
        "queries": wanted.probation.queries,
        "real_share": wanted.probation.real_share,
        "stand_in": wanted.stand_in.name,
        **{f"{kind.value}_queries": run.tally.get(kind, 0) for kind in QueryKind},
    }


def decoys_price(run: OpenRun) -> dict[str, float] | None:
    """Return the cap on labels beside the bits of the weights, with the run's decoys or with three.

    None with a public subspace, and where there are too few classes to draw decoys from.
    """
    hiding, collection = run.settings.hiding, run.collection
    decoys, classes = hiding.decoys or DEFAULT_DECOYS, run.session.server.carried.network.sizes[-1]
    if hiding.return_modes is not None or decoys >= classes:
        return None
    cap = reading_cap(decoys, classes, ASSUMED_GUESS_ERROR)
    spectrum = spectrum_of(run.session.server.carried.network)
    leakage = run.session.leakage(spectrum, decoys=decoys)
    assert leakage.weights_bits_network is not None, "of a spectrum that is given"
    return {
        "decoys": decoys,
        "label_cap": collection.cap if isinstance(collection, Decoys) else cap,
        "weights_bits_per_real": leakage.weights_bits_per_real,
        "weights_bits_network": leakage.weights_bits_network,
        "weights_bits_prior_free": leakage.weights_bits_prior_free,
    }


def labels_of(request: Asked, run: OpenRun) -> tuple[LabelFigure, ...]:
    """Return how labels are read, at the mismatch that is calibrated, stated, or typical.

    Of a client that clones its input alone: decoys and public modes have their own cap.
    """
    if request.hiding != OPEN:
        return ()
    supported = () if run.knowledge is None else supported_mismatches(run.knowledge.quantities)
    if not supported:
        stated = request.channel.mismatch if isinstance(request, ModeRun) else None
        supported = (TYPICAL_MISMATCH if stated is None else stated,)
    return label_figures(request.network, request.images.images, run.settings, *supported)


def predicted_accuracy(request: Asked, run: OpenRun) -> float:
    """Return the mean accuracy of a mode-level link of the run's parameters on its images."""
    # The order of hidden neurons changes no class: none is drawn here.
    settings = replace(
        run.settings, sampling=Sampling.MEASURED, light=replace(run.settings.light, disguise=PLAIN)
    )
    found = []
    for repeat in range(_PREDICTIONS):
        drawn = replace(settings, seed=settings.seed + repeat)
        collection = collection_of(request, drawn)
        session = Session(request.network, drawn, ModeLink(drawn), collection=collection)
        batches = session.run(request.images.images, batch_images=BATCH_IMAGES[Sampling.MEASURED])
        classes = np.concatenate([batch.classes for batch in batches])
        found.append(float(np.mean(classes == request.images.labels)))
    return sum(found) / len(found)
