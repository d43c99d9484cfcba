"""A graph of unlabelled images: few labels spread to all, clusters represent what is alike."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.data.mnist import load_test_images
from labctl.errors import SettingError
from labctl.protocols.encoding import Floats
from labctl.studies.attacks.copies.features import Features, features_of
from labctl.studies.attacks.copies.neighbours import NeighbourGraph

CLASSES = 4


def blobs(count: int, seed: int) -> tuple[Floats, np.ndarray]:
    """Return points (count, 70) around four centres, far enough apart not to touch."""
    random = np.random.default_rng(seed)
    centres = np.zeros((CLASSES, 70))
    centres[np.arange(CLASSES), np.arange(CLASSES)] = 5.0
    labels = np.arange(count) % CLASSES
    points = centres[labels] + 0.3 * random.standard_normal((count, 70))
    return points.astype(np.float32), labels


def test_one_label_for_each_cluster_names_everything() -> None:
    points, labels = blobs(200, 0)
    graph = NeighbourGraph(points, Features.PIXELS)
    clusters, central = graph.clusters(CLASSES, seed=0)
    assert len({(int(a), int(b)) for a, b in zip(clusters, labels, strict=True)}) == CLASSES
    shares = np.zeros((200, CLASSES))
    shares[central, labels[central]] = 1.0
    named = np.argmax(graph.smoothed(shares), axis=1)
    assert np.array_equal(named, labels)
    unseen, truth = blobs(40, 1)
    assert np.array_equal(np.argmax(graph.vote(unseen, named, CLASSES), axis=1), truth)


def test_doubtful_labels_follow_their_neighbours() -> None:
    """Every third label wrong; 200 points, seed 0."""
    points, labels = blobs(200, 0)
    wrong = np.where(np.random.default_rng(0).random(200) < 0.33, (labels + 1) % CLASSES, labels)
    assert 0.5 < np.mean(wrong == labels) < 0.8
    spread = NeighbourGraph(points, Features.PIXELS).smoothed(np.eye(CLASSES)[wrong])
    assert np.array_equal(np.argmax(spread, axis=1), labels)


def test_clusters_come_in_falling_order_of_size() -> None:
    points, labels = blobs(400, 0)
    kept = np.flatnonzero((labels != 2) | (np.arange(400) % 3 == 0))
    clusters, central = NeighbourGraph(points[kept], Features.PIXELS).clusters(CLASSES, seed=0)
    sizes = np.bincount(clusters)
    assert np.all(np.diff(sizes) <= 0)
    assert np.array_equal(clusters[central], np.arange(CLASSES))


def test_gradients_tell_that_a_shifted_digit_is_the_same() -> None:
    """200 digits, shifted by two pixels, look for themselves among all 200."""
    digits = load_test_images().images[:200]
    shifted = np.roll(digits.reshape(-1, 28, 28), 2, axis=2).reshape(200, -1)

    def found(kind: Features) -> float:
        one, other = features_of(digits, kind), features_of(shifted, kind)
        away = np.sum(one**2, axis=1) - 2.0 * other @ one.T
        return float(np.mean(np.argmin(away, axis=1) == np.arange(200)))

    assert found(Features.GRADIENTS) > 0.8
    assert found(Features.PIXELS) < 0.5
    assert np.linalg.norm(features_of(digits, Features.GRADIENTS), axis=1) == pytest.approx(1.0)


def test_what_is_no_picture_or_too_few_is_refused() -> None:
    with pytest.raises(SettingError, match="square picture"):
        features_of(np.ones((3, 30), np.float32), Features.GRADIENTS)
    with pytest.raises(SettingError, match="100 or more"):
        NeighbourGraph(blobs(99, 0)[0], Features.PIXELS)
