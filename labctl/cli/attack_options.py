"""Options that the attack commands share, and the session's settings that they make."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from labctl.cli.said import read
from labctl.errors import SettingError
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.receiver import (
    Homodyne,
    ReceiverKind,
    emission_factor_of_noise_figure,
    receiver_of,
)
from labctl.protocols.rotation import Rotation
from labctl.protocols.settings import (
    Channel,
    Light,
    Sampling,
    SessionSettings,
    VerificationSettings,
)

Name = Annotated[str, typer.Argument(help="Name of the attack (see labctl attack list).")]
Strength = Annotated[
    float | None,
    typer.Option(
        help="Strength of the attack, in the unit of its parameter (see labctl attack list)."
    ),
]

# Beyond what any account or pool holds; exact in double precision.
_MOST_COUNT = 10**15
VERIFICATION = VerificationSettings()


def settings_of(
    *,
    mu: float,
    gain: float,
    loss_db: float,
    technical_noise: float,
    loss: Trust = Trust.UNTRUSTED,
    noise: Trust = Trust.UNTRUSTED,
    efficiency: float = 1.0,
    electronic_noise: float = 0.0,
    noise_figure_db: float | None = None,
    receiver: ReceiverKind = ReceiverKind.AMPLIFIER,
    block_modes: int | None = None,
    rotation_loss_db_per_mode: float = 0.0,
    calibration_samples: int,
    monitor_samples: int,
    seed: int,
    false_alarm_probability: float = VERIFICATION.false_alarm_probability,
) -> SessionSettings:
    """Return the settings of an attacked session, all returned light read.

    All else is ideal, and nothing is trusted.
    """
    homodyne = Homodyne(efficiency, electronic_noise)
    factor = 1.0
    if noise_figure_db is not None:
        factor = emission_factor_of_noise_figure(noise_figure_db, gain)
    return SessionSettings(
        light=Light(mu, PLAIN),
        channel=Channel(
            loss_db=loss_db,
            technical_noise=technical_noise,
            rotation=Rotation(rotation_loss_db_per_mode, 0.0, 0.0),
            block_modes=block_modes,
        ),
        receiver=receiver_of(receiver, gain, factor, homodyne),
        verifier=homodyne,
        assumptions=Assumptions(loss=loss, technical_noise=noise),
        sampling=Sampling.ALL,
        seed=seed,
        verification=VerificationSettings(
            false_alarm_probability=false_alarm_probability,
            calibration_samples=calibration_samples,
            monitor_samples=monitor_samples,
        ),
    )


def settings_json(settings: SessionSettings) -> dict[str, Any]:
    """Return what was asked as plain values."""
    verification = settings.verification
    return {
        "mu": settings.light.mean_photons,
        "gain": settings.receiver.gain,
        "loss_db": settings.channel.loss_db,
        "technical_noise": settings.channel.technical_noise,
        "efficiency": settings.verifier.efficiency,
        "electronic_noise": settings.verifier.electronic_noise,
        "block_modes": settings.channel.block_modes,
        "calibration_samples": verification.calibration_samples,
        "monitor_samples": verification.monitor_samples,
        "seed": settings.seed,
    }


def setting_words(settings: SessionSettings) -> str:
    """Return the setting on one line."""
    words = [f"μ = {settings.light.mean_photons:g}", f"G = {settings.receiver.gain:g}"]
    if settings.channel.loss_db:
        words.append(f"{settings.channel.loss_db:g} dB lost")
    if settings.channel.technical_noise:
        words.append(f"{settings.channel.technical_noise:g} SNU technical noise")
    if settings.channel.block_modes is not None:
        words.append(f"blocks of {settings.channel.block_modes} modes")
    words.append(f"calibration of {settings.verification.calibration_samples:.3g} samples")
    words.append(
        "oscillator " + ("" if settings.verification.monitor_samples else "not ") + "watched"
    )
    return ", ".join(words)


def numbers(name: str, text: str) -> list[float]:
    """Return comma-separated finite numbers."""
    try:
        found = [read(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingError(name, text, "numbers with commas between, as 1e3,1e4") from error
    if not all(math.isfinite(each) for each in found):
        raise SettingError(name, text, "finite numbers")
    return found


def whole_numbers(name: str, text: str) -> list[int]:
    """Return comma-separated whole numbers from 1 on, in order; 1e4 is one."""
    found = numbers(name, text)
    if not all(1.0 <= each <= _MOST_COUNT and each.is_integer() for each in found):
        valid = f"whole numbers 1 to {_MOST_COUNT:.0e} with commas between, as 1e3,1e4"
        raise SettingError(name, text, valid)
    return [int(each) for each in found]
