"""Probes: a server that sends other light than weights, to see what a mismatched clone does to it.

A client's clone returns mode b with net amplitude 1 + delta, delta = 0 where amplifier and
splitter match exactly. Otherwise the residual of a row w is no longer noise alone but has the mean
delta (c^dagger w) c, in proportion to the light sent. Rows of weights hide it: c^dagger w has the
power of one mode. A probe that overlaps with every image, `flat` (all quadratures equal: images
are not negative), puts the power of all n modes there and adds up over the M rows. Averaged over
rows, its residual is the image itself, with a cosine r to it of

    r^2 = q/(1 + q),   q = delta^2 rho^2 mu M T/white,

mu photons per mode, rho = |c^dagger w|/|w|, T the round trip's transmittance with the detector's
efficiency, white the reading's variance in vacuum units. So what stops it is the client's limit on
the light it lets in, or a clone matched to within 1/(rho sqrt(mu M)). The client sees the arrived
photons, and a flat probe as values sqrt(n) times as large as any weights would give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.encoding import MOST_PHOTONS, Floats, unit_norm
from labctl.protocols.link import Exchange, LayerLight, Link, ReturnedLight
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import CloneReceiver
from labctl.protocols.server import Server
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.protocols.streams import Streams
from labctl.protocols.verification.verdict import LayerEvidence
from labctl.studies.attacks.attack import Attacker, Learned, Mark
from labctl.studies.attacks.demands import require_returned_light, require_whole_rows

Complexes = npt.NDArray[np.complex64]

# Branch of the session's seed for the probes of a layer.
_LAYER_KEY = 8


class ProbeShape(StrEnum):
    """What the server sends in place of the first layer's weights."""

    FLAT = "flat"
    ONE_HOT = "one-hot"
    WEIGHTS = "weights"


class ProbedLink:
    """A link whose clone may be mismatched and whose light may be squeezed; draws are exact.

    gain_error: delta, the returned mode b has net amplitude 1 + delta because the splitter returns
    (1 + delta)^2/G of the amplified light. sent_variance: of X of the light that the server sends,
    in SNU (P has the inverse), 1 for coherent states. `only_x`: the server reads X of every row,
    not one quadrature at random. Whole rows or blocks, an amplifier, an exact rotation. Without
    mismatch and squeezing it agrees with `ModeLink` in distribution. Raises SettingError.
    """

    def __init__(
        self,
        settings: SessionSettings,
        *,
        gain_error: float = 0.0,
        sent_variance: float = 1.0,
        only_x: bool = False,
    ) -> None:
        receiver = settings.receiver
        if not isinstance(receiver, CloneReceiver):
            raise SettingError("receiver", type(receiver).__name__, "an amplifier with splitter")
        if not settings.channel.rotation.exact:
            raise SettingError("rotation errors", "not zero", "none on a link with probes")
        checks.above("variance of squeezed light", sent_variance, 0.0, 1.0)
        most = math.sqrt(receiver.gain) - 1.0
        if not -1.0 <= gain_error <= most:
            raise SettingError("gain_error", gain_error, f"-1 to {most:.4g}, all that is amplified")
        self._settings = settings
        self._receiver = receiver
        self._returned_share = (1.0 + gain_error) ** 2 / receiver.gain
        self._sent_variance = sent_variance
        self._only_x = only_x
        self._streams = Streams(settings.seed)

    def calibrate(self) -> ReceiverCalibration:
        """Calibrate the verifier with the signal blocked."""
        return ModeLink(self._settings).calibrate()

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        """Send a layer; see `Link.exchange`."""
        values = np.empty((len(coefficients), light.rows, light.blocks.count), np.float32)
        measured = values.reshape(len(coefficients), -1)
        returned = self._carry(light, coefficients, values)
        if self._settings.sampling is Sampling.ALL:
            return Exchange(measured, returned)
        for _ in returned:
            pass
        return Exchange(measured, ())

    def _carry(
        self, light: LayerLight, coefficients: Floats, values: Floats
    ) -> Iterator[ReturnedLight]:
        generator = self._streams.of(_LAYER_KEY, light.layer)
        leg = self._settings.leg_transmittance_of(light.modes)
        sent = (light.x + 1j * light.p).astype(np.complex64)
        stretch = math.sqrt(self._sent_variance)
        rows_of_c = np.ascontiguousarray(coefficients, np.float32).view(np.complex64)
        for c, own in zip(rows_of_c, values, strict=True):
            vacuum = _vacuum(generator, sent.shape)
            field = sent + (stretch * vacuum.real + 1j / stretch * vacuum.imag)
            field = _through(generator, field, leg)
            for block, part in enumerate(light.blocks.slices()):
                own[:, block] = self._clone(generator, field[:, part], c[part])
            yield self._read(generator, field, leg)

    def _clone(self, generator: np.random.Generator, field: Complexes, c: Complexes) -> Floats:
        """Return what the client reads of one block; its mode b in `field` passes the clone."""
        gain, homodyne, back = self._receiver.gain, self._receiver.homodyne, self._returned_share
        collected = field @ c.conj()
        # What a direction of zero, or of a norm below 1 by rounding, lacks is vacuum.
        lacking = max(1.0 - float(np.vdot(c, c).real), 0.0)
        b = collected + math.sqrt(lacking) * _vacuum(generator, collected.shape)
        idler = math.sqrt(2.0 * self._receiver.emission_factor - 1.0)
        added = math.sqrt(gain - 1.0) * idler * _vacuum(generator, b.shape)
        amplified = math.sqrt(gain) * b + added
        dark = _vacuum(generator, b.shape)
        kept = math.sqrt(1.0 - back) * amplified - math.sqrt(back) * dark
        away = math.sqrt(back) * amplified + math.sqrt(1.0 - back) * dark
        field += np.outer(away - b, c)
        detector = generator.standard_normal(len(b), np.float32)
        detector *= np.float32(math.sqrt(1.0 - homodyne.efficiency + homodyne.electronic_noise))
        return np.asarray(math.sqrt(homodyne.efficiency) * kept.real + detector, np.float32)

    def _read(self, generator: np.random.Generator, field: Complexes, leg: float) -> ReturnedLight:
        verifier = self._settings.verifier
        kept, blocked = leg * verifier.efficiency, 1.0 + verifier.electronic_noise
        on_x = generator.random(len(field)) < (1.0 if self._only_x else 0.5)
        read = math.sqrt(kept) * np.where(on_x[:, None], field.real, field.imag)
        rest = 1.0 - kept + verifier.efficiency * self._settings.channel.technical_noise
        rest += verifier.electronic_noise
        read += math.sqrt(rest) * generator.standard_normal(read.shape, np.float32)
        cosine = on_x.astype(np.float32)[:, None]
        scaled = np.asarray(read / math.sqrt(blocked), np.float32)
        return ReturnedLight(scaled, cosine, np.float32(1.0) - cosine)


@dataclass(frozen=True)
class BrightProbes:
    """The attack: rows of another shape or brightness, against a client with a mismatched clone.

    brightness: photons per mode of the first layer's rows over the agreed number. gain_error: the
    client's delta, which the server need not know. Whole rows only.
    """

    brightness: float
    gain_error: float
    shape: ProbeShape = ProbeShape.FLAT

    party = Attacker.SERVER

    @property
    def name(self) -> str:
        """Its name by the shape of its rows."""
        return "structured-probes" if self.shape is ProbeShape.ONE_HOT else "bright-probes"

    def __post_init__(self) -> None:
        checks.above("brightness", self.brightness, 0.0, MOST_PHOTONS)

    @property
    def strength(self) -> float:
        """Brightness over the agreed one."""
        return self.brightness

    def mount(self, network: Network, settings: SessionSettings) -> MountedProbes:
        """Return the attack in place; raises SettingError where it cannot be mounted."""
        require_returned_light(settings)
        require_whole_rows(settings, "probes of whole rows")
        photons = settings.light.mean_photons * self.brightness
        checks.above("photons per mode of the probe", photons, 0.0, MOST_PHOTONS)
        link = ProbedLink(settings, gain_error=self.gain_error)
        return MountedProbes(link, ProbingServer(network, settings, self))

    def mark(self, _network: Network, _settings: SessionSettings) -> Mark | None:
        """Return None: the server deceives itself as it likes, its verdict says nothing."""
        return None


@dataclass(frozen=True, eq=False)
class MountedProbes:
    """A probing server in a session with an honest client of a mismatched clone."""

    link: Link
    server: ProbingServer

    def inputs(self, images: Floats) -> Floats:
        """Return the images as they are."""
        return images

    def learned(self, _network: Network, images: LabelledImages) -> Learned:
        """Score the estimated images: mean Pearson correlation with the true symbols."""
        truth = unit_norm(self.server.carried.inputs.taken(images.images))
        pairs = zip(self.server.estimates, truth, strict=True)
        found = [_pearson(estimate[: truth.shape[1]], true) for estimate, true in pairs]
        return Learned(samples=truth.size, data_correlation=float(np.mean(found)))


class ProbingServer(Server):
    """Sends probes as its first layer and keeps an estimate of each image."""

    def __init__(self, network: Network, settings: SessionSettings, attack: BrightProbes) -> None:
        super().__init__(network, settings.light.mean_photons, settings.channel.block_modes)
        probe = probe_light(super().light(0), settings.light.mean_photons, attack)
        self._light = (probe, *self._light[1:])
        self._evidence = (LayerEvidence(probe), *self._evidence[1:])
        self._sent = (probe.x + 1j * probe.p).astype(np.complex64)
        verifier = settings.verifier
        through = settings.transmittance_of(probe.modes) * verifier.efficiency
        self._slope = math.sqrt(through / (1.0 + verifier.electronic_noise))
        self._shape = attack.shape
        self.estimates: list[Floats] = []

    def check(self, layer: int, returned: ReturnedLight) -> None:
        """Do as an honest server does; estimate the image from the first layer's residual."""
        super().check(layer, returned)
        if layer != 0:
            return
        probe = self._light[0]
        expected = self._slope * (returned.cosine * probe.x + returned.sine * probe.p)
        residual = (returned.measured - expected) * (returned.cosine + 1j * returned.sine)
        estimate = self._direction(residual.astype(np.complex64))
        flat = np.ascontiguousarray(estimate, np.complex64).view(np.float32)
        self.estimates.append(flat if flat.sum() >= 0.0 else -flat)

    def _direction(self, residual: Complexes) -> Complexes:
        """Return what residuals (rows, n) of mean delta (c^dagger w) c say of c, up to a sign."""
        if self._shape is ProbeShape.FLAT:
            mean: Complexes = residual.mean(axis=0)
            return mean
        # Sums to delta c c^dagger times the probes' power, plus noise.
        matrix = residual.T @ self._sent.conj()
        values, vectors = np.linalg.eigh(matrix + matrix.conj().T)
        best: Complexes = vectors[:, np.argmax(np.abs(values))]
        # Its phase is free; pixels that are alike lie at 45 degrees.
        turn = np.exp(1j * (math.pi / 4.0 - np.angle(best.sum())))
        return np.asarray(best * turn, np.complex64)


def probe_light(honest: LayerLight, mean_photons: float, attack: BrightProbes) -> LayerLight:
    """Return the probes of a layer; each row has as many photons as `brightness` rows agreed.

    `flat`: all quadratures equal. `one-hot`: row r has light in mode r (modulo n) alone.
    `weights`: the honest rows, brighter.
    """
    photons = mean_photons * attack.brightness
    if attack.shape is ProbeShape.WEIGHTS:
        rows = honest.quadratures * np.float32(math.sqrt(attack.brightness))
    elif attack.shape is ProbeShape.FLAT:
        rows = np.full_like(honest.quadratures, math.sqrt(2.0 * photons))
    else:
        rows = np.zeros_like(honest.quadratures)
        number = np.arange(honest.rows)
        for side in (0, 1):
            lit = 2 * (number % honest.modes) + side
            rows[number, lit] = math.sqrt(2.0 * photons * honest.modes)
    return LayerLight(honest.layer, rows, honest.block_modes)


def _vacuum(generator: np.random.Generator, shape: tuple[int, ...]) -> Complexes:
    """Draw X + iP of vacuum."""
    drawn = generator.standard_normal((*shape, 2), np.float32)
    return drawn.view(np.complex64)[..., 0]


def _through(generator: np.random.Generator, field: Complexes, kept: float) -> Complexes:
    """Pass a loss of transmittance `kept`."""
    if kept == 1.0:
        return np.asarray(field, np.complex64)
    lost = math.sqrt(1.0 - kept) * _vacuum(generator, field.shape)
    return np.asarray(math.sqrt(kept) * field + lost, np.complex64)


def _pearson(estimate: Floats, truth: Floats) -> float:
    if np.ptp(truth) == 0.0 or np.ptp(estimate) == 0.0:
        return 0.0
    return float(np.corrcoef(estimate, truth)[0, 1])
