"""What several commands ask the same way: images, assumptions, where runs go."""

from __future__ import annotations

from pathlib import Path

from labctl.data.mnist import LabelledImages, load_images, load_test_images
from labctl.errors import SettingError
from labctl.protocols.leakage import Assumptions, Trust

DEFAULT_RUNS = Path("labctl-runs")


def images_of(folder: Path | None, count: int) -> LabelledImages:
    """Return the first `count` test images, of a folder or of the shipped MNIST set."""
    available = load_images(folder, "test") if folder is not None else load_test_images()
    if not 1 <= count <= len(available.labels):
        raise SettingError("images", count, f"1 to {len(available.labels)}")
    return LabelledImages(available.images[:count], available.labels[:count])


def assumptions(loss: Trust, noise: Trust) -> Assumptions:
    """Return the assumptions that the options name."""
    return Assumptions(loss=loss, technical_noise=noise)
