"""The task `infer`: accuracy, leakage and verdict of a session at mode level."""

from __future__ import annotations

import hashlib
import math
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from labctl.data.mnist import LabelledImages
from labctl.data.models import SHIPPED_NETWORKS, Network, load_network
from labctl.data.tasks import is_task, part_to_classify
from labctl.errors import SettingError
from labctl.protocols.disguise import FRESH_ORDER
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import (
    Homodyne,
    ReceiverKind,
    emission_factor_of_noise_figure,
    receiver_of,
)
from labctl.protocols.rotation import Rotation
from labctl.protocols.server import Server
from labctl.protocols.session import Session
from labctl.protocols.settings import (
    Channel,
    Light,
    Sampling,
    SessionSettings,
    VerificationSettings,
)
from labctl.protocols.verification.verdict import VerificationReport
from labctl.run.report import finite
from labctl.studies.sweep.leakage_task import (
    LEAKAGE_VALUES,
    Count,
    TrustName,
    assumptions_of,
    leakage_values,
)
from labctl.studies.sweep.task import Scalar, Settings

_BATCH = {Sampling.MEASURED: 512, Sampling.ALL: 32}
_PROBE_IMAGES = {Sampling.MEASURED: 256, Sampling.ALL: 8}
_CACHED = 8
# Scalars alone: a point's values are one row of a table.
_VERDICT = tuple(
    entry.name
    for entry in fields(VerificationReport)
    if entry.name not in ("checks", "collective", "collective_bounds")
)


class InferSettings(Settings):
    """What the options of `labctl infer` set at mode level; `mean_photons` is its `mu`.

    `model`: a shipped network or a file; `data`: a folder of test images, None for the shipped.
    """

    model: str = "noise-aware"
    images: Count = 100
    data: str | None = None
    mean_photons: float = 0.57
    gain: float = 1.3
    loss_db: float = 0.0
    loss: TrustName = "untrusted"
    technical_noise: float = 0.0
    noise: TrustName = "untrusted"
    sample: Literal["measured", "all"] = "all"
    efficiency: float = 1.0
    electronic_noise: float = 0.0
    noise_figure_db: float | None = None
    receiver: Literal["amplifier", "tap"] = "amplifier"
    block_modes: Count | None = None
    rotation_loss_db_per_mode: float = 0.0
    coupler_error_rad: float = 0.0
    phase_error_rad: float = 0.0
    failure_probability: float = 1e-10
    false_alarm_probability: float = 1e-6
    calibration_samples: Annotated[int, Field(ge=2)] = 100_000_000
    weights_bits_limit: float | None = None


class InferTask:
    """One session at mode level over the first images of the test set."""

    name = "infer"
    settings = InferSettings
    seeded = True
    values = (
        *("accuracy", "accuracy_standard_error", "signal_to_noise", "honest_excess_noise"),
        *LEAKAGE_VALUES,
        *(f"verdict_{name}" for name in _VERDICT),
    )
    headline = ("accuracy", "signal_to_noise", "weights_bits_prior_free", "data_bits_journal")

    def resolved(self, settings: InferSettings, folder: Path) -> InferSettings:
        """Return the settings with absolute files."""
        files = {}
        if settings.data is not None and not is_task(settings.data, folder):
            files["data"] = settings.data
        if settings.model not in SHIPPED_NETWORKS:
            files["model"] = settings.model
        absolute = {name: str((folder / file).resolve()) for name, file in files.items()}
        return settings.model_copy(update=absolute)

    def check(self, settings: InferSettings) -> None:
        """Raise what a session would: SettingError, ModelError, DatasetError."""
        _session_settings(settings, 0)
        _images(settings)
        network_of(settings.model)

    def identity(self, settings: InferSettings) -> dict[str, Scalar]:
        """Return the settings with the hash of network and images in place of their files."""
        return {
            **settings.model_dump(exclude={"model", "data"}),
            "model_sha256": network_of(settings.model).sha256,
            "images_sha256": _test_set(settings.data)[1],
        }

    def probe(self, settings: InferSettings) -> tuple[InferSettings, float]:
        """Return a session over a few images."""
        few = min(settings.images, _PROBE_IMAGES[Sampling(settings.sample)])
        return settings.model_copy(update={"images": few}), settings.images / few

    def assumptions(self, settings: InferSettings) -> tuple[str, ...]:
        """Return what the leakage figures assume."""
        return assumptions_of(settings.loss, settings.noise).sentences()

    def run(self, settings: InferSettings, seed: int) -> dict[str, Scalar]:
        """Return accuracy, leakage and verdict."""
        images, network = _images(settings), network_of(settings.model)
        agreed = _session_settings(settings, seed)
        session = Session(network, agreed, ModeLink(agreed))
        correct = 0
        for batch in session.run(images.images, batch_images=_BATCH[agreed.sampling]):
            labels = images.labels[batch.first_image : batch.first_image + len(batch.classes)]
            correct += int(np.count_nonzero(batch.classes == labels))
        accuracy = correct / settings.images
        report = session.verdict()
        verdict = finite({name: _plain(getattr(report, name)) for name in _VERDICT})
        return {
            "accuracy": accuracy,
            "accuracy_standard_error": math.sqrt(accuracy * (1.0 - accuracy) / settings.images),
            "signal_to_noise": _signal_to_noise(agreed, session.server),
            **leakage_values(session.leakage()),
            **{f"verdict_{name}": value for name, value in verdict.items()},
        }


@lru_cache(_CACHED)
def network_of(model: str) -> Network:
    """Return a network, read once per process."""
    return load_network(model)


@lru_cache(_CACHED)
def _test_set(data: str | None) -> tuple[LabelledImages, str]:
    """Return a test set and the hash of its images and labels, read once per process."""
    images = part_to_classify(data)
    digest = hashlib.sha256(np.array(images.images.shape, dtype="<u8").tobytes())
    digest.update(images.images.astype("<f4", copy=False).tobytes())
    digest.update(images.labels.tobytes())
    return images, digest.hexdigest()


def _images(settings: InferSettings) -> LabelledImages:
    available, _ = _test_set(settings.data)
    if settings.images > len(available.labels):
        raise SettingError("images", settings.images, f"1 to {len(available.labels)}")
    count = settings.images
    return LabelledImages(available.images[:count], available.labels[:count])


def _session_settings(settings: InferSettings, seed: int) -> SessionSettings:
    homodyne = Homodyne(settings.efficiency, settings.electronic_noise)
    factor = 1.0
    if settings.noise_figure_db is not None:
        factor = emission_factor_of_noise_figure(settings.noise_figure_db, settings.gain)
    return SessionSettings(
        light=Light(settings.mean_photons, FRESH_ORDER),
        channel=Channel(
            loss_db=settings.loss_db,
            technical_noise=settings.technical_noise,
            rotation=Rotation(
                settings.rotation_loss_db_per_mode,
                settings.coupler_error_rad,
                settings.phase_error_rad,
            ),
            block_modes=settings.block_modes,
        ),
        receiver=receiver_of(ReceiverKind(settings.receiver), settings.gain, factor, homodyne),
        verifier=homodyne,
        assumptions=assumptions_of(settings.loss, settings.noise),
        sampling=Sampling(settings.sample),
        seed=seed,
        verification=VerificationSettings(
            failure_probability=settings.failure_probability,
            false_alarm_probability=settings.false_alarm_probability,
            calibration_samples=settings.calibration_samples,
            weights_bits_limit=settings.weights_bits_limit,
        ),
    )


def _signal_to_noise(settings: SessionSettings, server: Server) -> float:
    """Return the smallest F of all layers."""
    return min(settings.signal_to_noise_of(shape.modes) for shape in server.shapes)


def _plain(value: Any) -> Scalar:
    """Return a NumPy scalar as the plain number that it is."""
    plain: Scalar = value.item() if isinstance(value, np.generic) else value
    return plain
