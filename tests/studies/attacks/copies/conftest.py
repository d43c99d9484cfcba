"""A small task of four classes, a network that does it, and what a thief has of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from sessions import ideal_session

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.copies.features import Features
from labctl.studies.attacks.copies.stolen import PublicImages

CLASSES, INPUTS, HIDDEN = 4, 60, 40


def a_task(count: int, seed: int) -> LabelledImages:
    """Return inputs of four classes: blobs around centres of few, positive directions."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).random((CLASSES, INPUTS)) ** 4
    labels = np.arange(count) % CLASSES
    images = np.abs(centres[labels] + 0.08 * random.standard_normal((count, INPUTS)))
    return LabelledImages(images.astype(np.float32), labels.astype(np.uint8))


def a_network() -> Network:
    """Return a network of the task: random features, the last layer fitted."""
    task, random = a_task(400, 1), np.random.default_rng(2)
    unit = task.images / np.linalg.norm(task.images, axis=1, keepdims=True)
    first = random.standard_normal((HIDDEN, 400)) @ (unit - unit.mean(axis=0)) / 20.0
    hidden = np.maximum(unit @ first.T, 0.0)
    target = np.eye(CLASSES)[task.labels] - 1.0 / CLASSES
    gram = hidden.T @ hidden
    last = np.linalg.solve(gram + 1e-3 * np.trace(gram) * np.eye(HIDDEN), hidden.T @ target).T
    return Network((first.astype(np.float32), last.astype(np.float32)), "blobs", {})


def settings_of(mean_photons: float, gain: float, seed: int = 0) -> SessionSettings:
    return ideal_session(mean_photons, gain, seed=seed)


@dataclass(frozen=True, eq=False)
class SmallTask:
    """What is attacked, what is public, and what judges a copy."""

    network: Network
    public: PublicImages
    judged: LabelledImages
    classes: int = CLASSES

    def settings(self, mean_photons: float, gain: float, seed: int = 0) -> SessionSettings:
        return settings_of(mean_photons, gain, seed)


@pytest.fixture(scope="package")
def small() -> SmallTask:
    public = PublicImages(a_task(300, 3).images, Features.PIXELS)
    return SmallTask(a_network(), public, a_task(400, 4))
