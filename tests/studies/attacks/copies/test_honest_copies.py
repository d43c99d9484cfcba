"""Copies by honest optics and by classes alone: nothing in the returned light is dishonest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from labctl.errors import SettingError
from labctl.protocols.encoding import unit_rms
from labctl.protocols.session import Session
from labctl.studies.attacks.attack import Attack
from labctl.studies.attacks.chosen_inputs import ChosenInputs
from labctl.studies.attacks.copies.classes_alone import ClassesAlone
from labctl.studies.attacks.copies.copy_curve import copy_curve, steal
from labctl.studies.attacks.copies.honest_optics import ChosenPrincipalInputs, ModelCopy, Prior
from labctl.studies.attacks.queries import curve_over_queries


def test_flat_ridge_is_the_best_linear_estimate_of_the_first_layer(small: Any) -> None:
    """Against an independent solution from the inputs and measured values; 30 queries, seed 0."""
    weak = small.settings(2.0, 1.05)
    mounted = ModelCopy(small.public, Prior.FLAT).mount(small.network, weak)
    session = Session(small.network, weak, mounted.link)
    batches = list(session.run(small.judged.images[:30]))
    values = np.concatenate([batch.measured[0] for batch in batches])
    unit = small.judged.images[:30] / np.linalg.norm(
        small.judged.images[:30], axis=1, keepdims=True
    )
    design = np.sqrt(2.0 * weak.light.mean_photons * (weak.receiver.gain - 1.0)) * unit
    noise = weak.receiver.measured_noise
    ridge = np.linalg.solve(design.T @ design + noise * np.eye(60), design.T @ values).T
    truth = unit_rms(small.network.layers[0])
    stolen = mounted.copy().layers[0]
    assert stolen == pytest.approx(ridge, rel=1e-3, abs=1e-4)
    assert np.corrcoef(stolen.ravel(), truth.ravel())[0, 1] > 0.3


def correlation(small: Any, attack: Attack, queries: int) -> float:
    weak = small.settings(2.0, 1.05)
    (point,) = curve_over_queries(
        attack, small.network, weak, small.judged, [queries], test=small.judged
    )
    found = point.outcome.learned.weights_correlation
    assert point.outcome.verification.accepted
    assert found is not None
    return found


def test_principal_inputs_tell_more_than_images_and_these_more_than_basis_vectors(
    small: Any,
) -> None:
    """30 queries of a network that lies along its images, seed 0."""
    chosen, images = ChosenPrincipalInputs(small.public), ModelCopy(small.public)
    assert (
        correlation(small, chosen, 30)
        > correlation(small, images, 30)
        > correlation(small, ChosenInputs(1.0), 30)
    )
    assert correlation(small, images, 30) > correlation(
        small, ModelCopy(small.public, Prior.FLAT), 30
    )


def test_a_fresh_order_denies_linking(small: Any) -> None:
    """100 queries, seed 0: what adds up with a fixed order does not with a fresh one."""
    weak = small.settings(2.0, 1.05)
    fresh = replace(
        weak,
        light=replace(weak.light, disguise=replace(weak.light.disguise, permute=True)),
    )
    for attack in (ModelCopy(small.public), ChosenPrincipalInputs(small.public)):
        fixed, hidden = (
            steal(
                attack,
                small.network,
                settings,
                small.judged.images[:100],
                small.public,
                small.judged,
            ).worth.raw
            for settings in (weak, fresh)
        )
        assert fixed > 0.9
        assert hidden < 0.75


def test_classes_of_well_chosen_images_name_all_others(small: Any) -> None:
    """As many answers as classes are enough where classes do not touch; seeds 0 to 2."""
    points = copy_curve(
        lambda queries: ClassesAlone(small.public, queries),
        small.network,
        small.settings(50.0, 2.0),
        [1, small.classes],
        small.public,
        small.judged,
        seeds=3,
    )
    assert points[0].best < 0.7
    assert points[1].best > 0.95
    assert points[1].accepted == 3
    assert 0.0 < points[1].standard_error < 0.05


def test_a_quarter_of_the_public_images_may_be_asked_about(small: Any) -> None:
    assert ClassesAlone(small.public, 75).strength == 75.0
    for queries in (0, 76):
        with pytest.raises(SettingError, match="1 to 75"):
            ClassesAlone(small.public, queries)


def test_queries_curves_judge_copies_finished_where_that_is_better(small: Any) -> None:
    (point,) = curve_over_queries(
        ClassesAlone(small.public, small.classes),
        small.network,
        small.settings(50.0, 2.0),
        small.judged,
        [small.classes],
        test=small.judged,
    )
    accuracy = point.outcome.learned.copy_accuracy
    assert accuracy is not None
    assert accuracy > 0.95
    assert point.outcome.learned.weights_correlation is None


def test_what_is_no_thief_of_copies_or_too_many_queries_is_refused(small: Any) -> None:
    weak = small.settings(2.0, 1.05)
    with pytest.raises(SettingError, match="builds a copy"):
        steal(
            ChosenInputs(1.0),
            small.network,
            weak,
            small.judged.images[:1],
            small.public,
            small.judged,
        )
    with pytest.raises(SettingError, match="1 to 300"):
        copy_curve(
            lambda queries: ModelCopy(small.public),
            small.network,
            weak,
            [301],
            small.public,
            small.judged,
        )
    with pytest.raises(SettingError, match="whole rows"):
        ModelCopy(small.public).mount(
            small.network, replace(weak, channel=replace(weak.channel, block_modes=4))
        )
    with pytest.raises(SettingError, match="directions"):
        ModelCopy(small.public, directions=0)
