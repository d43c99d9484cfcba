"""The settings of one secure-inference session, checked once, before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from labctl import checks
from labctl.dsp.pilot_variance import signal_to_noise_left
from labctl.errors import SettingError
from labctl.protocols.disguise import FRESH_ORDER, Disguise
from labctl.protocols.encoding import LEAST_PHOTONS, MOST_PHOTONS, PHOTON_RANGE, Blocks
from labctl.protocols.hiding.hiding import OPEN, Hiding
from labctl.protocols.leakage import Assumptions, LayerShape, Leakage, Spectrum, leakage_of
from labctl.protocols.mismatch import MATCHED_CLONE, CloneMismatch
from labctl.protocols.own_oscillator import OwnOscillator
from labctl.protocols.receiver import MOST_NOISE, CloneReceiver, Homodyne, Receiver
from labctl.protocols.rotation import IDEAL_ROTATION, MOST_LOSS_DB, Rotation
from labctl.units import db_to_ratio

# F = 2 mu/D = 0.30 at G = 1.3.
MEAN_PHOTONS = 0.57
# Twelve days at a gigahertz; counts stay exact in double precision.
MOST_SAMPLES = 10**15


class Sampling(StrEnum):
    """How much of the returned light is drawn and verified."""

    MEASURED = "measured"
    ALL = "all"


@dataclass(frozen=True)
class VerificationSettings:
    """How the server decides.

    failure_probability: chance that the true transmittance or excess noise lies outside the
    bounds (two-sided, both bounds together). false_alarm_probability: chance that an honest
    session is rejected. calibration_samples: homodyne samples with the signal blocked that fix the
    shot-noise unit. monitor_samples: as many more with the signal blocked after each batch of
    images, 0 to leave the unit unwatched. weights_bits_limit: highest bound on the bits per real
    weight that the server tolerates, or None to only watch for tampering.
    """

    failure_probability: float = 1e-10
    false_alarm_probability: float = 1e-6
    calibration_samples: int = 100_000_000
    weights_bits_limit: float | None = None
    monitor_samples: int = 1_000_000

    def __post_init__(self) -> None:
        for name in ("failure_probability", "false_alarm_probability"):
            checks.probability(name, getattr(self, name))
        checks.within("calibration_samples", self.calibration_samples, 2, MOST_SAMPLES)
        holds = 0 <= self.monitor_samples <= MOST_SAMPLES and self.monitor_samples != 1
        checks.require(
            holds, "monitor_samples", self.monitor_samples, f"0, or 2 to {MOST_SAMPLES:.0e}"
        )
        limit = self.weights_bits_limit
        if limit is not None:
            checks.positive("weights_bits_limit", limit, " bits and finite, or none")


@dataclass(frozen=True)
class Light:
    """What the server sends: mu photons per mode, above 0, and what is drawn again per image."""

    mean_photons: float = MEAN_PHOTONS
    disguise: Disguise = FRESH_ORDER

    def __post_init__(self) -> None:
        holds = LEAST_PHOTONS <= self.mean_photons <= MOST_PHOTONS
        checks.require(holds, "mean_photons", self.mean_photons, PHOTON_RANGE)


USUAL_LIGHT = Light()


@dataclass(frozen=True)
class Channel:
    """What is between the parties: an ideal one by default.

    loss_db: of the round trip, half of it on each leg. technical_noise: excess noise of the link
    in SNU at the server. rotation: loss and errors of the client's elements, on top of the link's
    loss. block_modes: modes that they collect at a time, None for whole rows. mismatch: net gain
    and phase of what the client's clone returns; None runs a matched one and states label reading
    at a typical mismatch.
    """

    loss_db: float = 0.0
    technical_noise: float = 0.0
    rotation: Rotation = IDEAL_ROTATION
    block_modes: int | None = None
    mismatch: CloneMismatch | None = None

    def __post_init__(self) -> None:
        Blocks.of(1, self.block_modes)
        checks.within("loss_db", self.loss_db, 0.0, MOST_LOSS_DB, note=" dB")
        checks.within("technical_noise", self.technical_noise, 0.0, MOST_NOISE, note=", in SNU")

    @property
    def clone_mismatch(self) -> CloneMismatch:
        """Net gain and phase of what the clone returns in a run."""
        return MATCHED_CLONE if self.mismatch is None else self.mismatch


IDEAL_CHANNEL = Channel()


@dataclass(frozen=True)
class SessionSettings:
    """What server and client agree on, and what each assumes of the link.

    light: what the server sends. channel: what is between the parties. receiver: the client's.
    verifier: the server's. hiding: modes that the client collects so that its input does not show.
    oscillator: the client's own laser, whose receiver then is a heterodyne one (half of the
    efficiency in each quadrature); None where the server's light is its local oscillator. What
    hides an assumption has no default.
    """

    light: Light
    channel: Channel
    receiver: Receiver
    verifier: Homodyne
    assumptions: Assumptions
    sampling: Sampling
    seed: int
    verification: VerificationSettings = VerificationSettings()
    hiding: Hiding = OPEN
    oscillator: OwnOscillator | None = None

    def __post_init__(self) -> None:
        checks.at_least("seed", self.seed, 0)
        self._check_oscillator()
        rotation = self.channel.rotation
        if self.hiding.return_modes is not None and rotation != IDEAL_ROTATION:
            raise SettingError(
                "rotation", rotation, "ideal where a public subspace is returned: not modelled"
            )

    def _check_oscillator(self) -> None:
        """Refuse what needs a phase before it is known: a displacement, or several modes a row."""
        if self.oscillator is None:
            return
        if not isinstance(self.receiver, CloneReceiver):
            raise SettingError(
                "receiver", "tap", "an amplifier where the local oscillator is the client's own"
            )
        if self.hiding != OPEN:
            raise SettingError(
                "hiding", self.hiding, "none where the local oscillator is the client's own"
            )

    def phase_rad2_of(self, modes: int) -> float:
        """Return the variance of the client's phases for rows of `modes` modes, in rad^2.

        Raises SettingError where they cannot be followed.
        """
        if self.oscillator is None:
            return 0.0
        return self.oscillator.phase_rad2(
            self.block_of(modes),
            arriving_photons=self.light.mean_photons * self.leg_transmittance,
            referred_noise=self.receiver.referred_noise,
        )

    def clones_of(self, layer: int) -> int:
        """Return how many modes of each block of a layer the client collects, if it has as many."""
        return self.hiding.clones_of(layer)

    def _rotation_db(self, modes: int) -> float:
        """Return the rotation's loss in dB, each way, for rows of `modes` modes."""
        return self.channel.rotation.loss_db(self.block_of(modes), self.hiding.decoys + 1)

    @property
    def leg_transmittance(self) -> float:
        """Transmittance of one leg of the link, the client's rotation left out."""
        return db_to_ratio(-self.channel.loss_db / 2.0)

    @property
    def transmittance(self) -> float:
        """Transmittance of the round trip, the client's rotation left out."""
        return db_to_ratio(-self.channel.loss_db)

    @property
    def signal_to_noise(self) -> float:
        """F of one inner product at the client, the rotation being ideal."""
        return self.receiver.signal_to_noise(self.light.mean_photons, self.leg_transmittance)

    def leakage(self, shapes: tuple[LayerShape, ...], spectrum: Spectrum | None = None) -> Leakage:
        """Return what an honest client's run leaks at these settings; see `leakage_of`."""
        return leakage_of(
            shapes,
            mean_photons=self.light.mean_photons,
            gain=self.receiver.gain,
            transmittance=self.transmittance,
            technical_noise=self.channel.technical_noise,
            assumptions=self.assumptions,
            emission_factor=self.receiver.emission_factor,
            rotation=self.channel.rotation,
            spectrum=spectrum,
        )

    def block_of(self, modes: int) -> int:
        """Return the modes of a block of a row of `modes` modes."""
        return Blocks.of(modes, self.channel.block_modes).size

    def leg_transmittance_of(self, modes: int) -> float:
        """Return the transmittance of one leg for rows of `modes` modes, rotation included."""
        return db_to_ratio(-self.channel.loss_db / 2.0 - self._rotation_db(modes))

    def transmittance_of(self, modes: int) -> float:
        """Return the transmittance of the round trip for such rows, rotation included."""
        return db_to_ratio(-self.channel.loss_db - 2.0 * self._rotation_db(modes))

    def signal_to_noise_of(self, modes: int) -> float:
        """Return F of one inner product over `modes` modes.

        Rotation loss and errors, and phases that are not known, are included.
        """
        leg = self.leg_transmittance_of(modes)
        ideal = self.receiver.signal_to_noise(self.light.mean_photons, leg)
        found = self.channel.rotation.signal_to_noise(ideal, self.block_of(modes))
        return signal_to_noise_left(found, self.phase_rad2_of(modes))
