"""The mode-level link with somebody on it: light carried quadrature by quadrature along a path.

Light is Gaussian and all that happens to it is linear, so a number drawn for each quadrature at
each open port (the Wigner function, positive here) gives the exact joint statistics of everything
that anybody reads by homodyne or heterodyne. The honest link draws fewer numbers for the same
distribution; here an attacker on the path has to find the whole mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.encoding import Blocks, Floats
from labctl.protocols.link import Exchange, LayerLight, MonitorReading, ReturnedLight
from labctl.protocols.mismatch import MATCHED_CLONE, CloneMismatch
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import CloneReceiver, Receiver, TapReceiver
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.protocols.streams import Streams
from labctl.studies.attacks.weights_estimate import Complex, Mask, Notebook

# Branch of the session's seed for what an attacked layer draws, apart from the honest link's.
_LAYER_KEY = 7


@dataclass(frozen=True, eq=False)
class Replaced:
    """Modes `chosen` that a client read (`outcomes`) and filled with its own light.

    `refill`: mean of that light; all (rows, n), in the units of the light that came.
    """

    chosen: Mask
    outcomes: Complex
    refill: Complex


class Beam:
    """All modes of one layer on their way, for one query.

    `field` (rows, n): a draw of X + iP in SNU. `transmittance`: of the way so far.
    """

    def __init__(self, light: LayerLight, generator: np.random.Generator) -> None:
        self.light = light
        self.generator = generator
        self.transmittance = 1.0
        self.replaced: Replaced | None = None
        self.field: Complex = self.vacuum(light.rows, light.modes)
        self.field += light.quadratures.view(np.complex64)

    def vacuum(self, rows: int, modes: int) -> Complex:
        """Draw vacuum: X and P of unit variance."""
        drawn = self.generator.standard_normal((rows, 2 * modes), dtype=np.float32)
        return drawn.view(np.complex64)

    def split(self, kept: float) -> Complex:
        """Pass a beam splitter of transmittance `kept`; return the other output."""
        dark = self.vacuum(*self.field.shape)
        stay, go = np.float32(math.sqrt(kept)), np.float32(math.sqrt(1.0 - kept))
        other: Complex = go * self.field
        other -= stay * dark
        self.field *= stay
        dark *= go
        self.field += dark
        self.transmittance *= kept
        return other

    def lose(self, kept: float) -> None:
        """Pass a lossy element of transmittance `kept`."""
        if kept < 1.0:
            self.split(kept)


class Waypoint(Protocol):
    """Somebody at some place of the path."""

    def meet(self, beam: Beam) -> None:
        """Do to the passing light what must be done, and note what is seen."""
        ...


@dataclass(frozen=True, eq=False)
class Path:
    """What the light of a session meets, in order.

    `departing` and `returning`: stations at the start of each leg. `entering`: what a dishonest
    client does before its receiver. `receiver` is the client's; `modes_cloned` how many modes of
    each block it clones, those that an honest client collects being the first; with none it has no
    value, and goes on with 0. `leg_transmittance`: of what is left of a leg, rotation included, by
    the modes of a row. `oscillator_factor`: power of the server's local oscillator over that during
    calibration. `notebook`: where the client keeps what its receiver reads, if it does.
    """

    receiver: Receiver
    leg_transmittance: Callable[[int], float]
    departing: tuple[Waypoint, ...] = ()
    entering: tuple[Waypoint, ...] = ()
    returning: tuple[Waypoint, ...] = ()
    modes_cloned: int = 1
    oscillator_factor: float = 1.0
    notebook: Notebook | None = None
    mismatch: CloneMismatch = MATCHED_CLONE

    @classmethod
    def honest(cls, settings: SessionSettings) -> Path:
        """Return the path of a session in which nobody attacks."""
        return cls(
            settings.receiver,
            settings.leg_transmittance_of,
            mismatch=settings.channel.clone_mismatch,
        )

    def with_notes(self, notebook: Notebook) -> Path:
        """Return the path with the client keeping what its receiver reads."""
        return replace(self, notebook=notebook)


class TamperedLink:
    """A `Link` along any path; without attacker it agrees with `ModeLink` in distribution.

    Streams of random numbers belong to layers and run over the queries in order, so results do
    not depend on how images are grouped into batches.
    """

    def __init__(self, settings: SessionSettings, path: Path) -> None:
        self._settings = settings
        self._path = path
        self._streams = Streams(settings.seed)
        self._blocked = ModeLink(settings)

    def calibrate(self) -> ReceiverCalibration:
        """Calibrate the verifier: nobody touches it yet."""
        return self._blocked.calibrate()

    def monitor(self) -> MonitorReading | None:
        """Read the blocked receiver during the session, its oscillator being what it is now."""
        reading = self._blocked.monitor()
        if reading is None:
            return None
        electronic = self._settings.verifier.electronic_noise
        ratio = (self._path.oscillator_factor + electronic) / (1.0 + electronic)
        return MonitorReading(ratio * reading.blocked_variance, reading.samples)

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        """Send a layer; see `Link.exchange`."""
        collected = self._settings.channel.rotation.collected(
            coefficients, light.blocks, self._settings.seed
        )
        values = light.rows * light.blocks.count
        measured = np.empty((*collected.shape[:-1], values), np.float32)
        returned = self._carry(light, collected, measured)
        if self._settings.sampling is Sampling.ALL:
            return Exchange(measured, returned)
        for _ in returned:
            pass
        return Exchange(measured, ())

    def _carry(
        self, light: LayerLight, coefficients: Floats, measured: Floats
    ) -> Iterator[ReturnedLight]:
        """Yield each query's returned light and fill in its measured values."""
        path, generator = self._path, self._streams.of(_LAYER_KEY, light.layer)
        leg = path.leg_transmittance(light.modes)
        for row, values in zip(coefficients, measured, strict=True):
            beam = Beam(light, generator)
            for station in path.departing:
                station.meet(beam)
            beam.lose(leg)
            for station in path.entering:
                station.meet(beam)
            values[:] = _receive(path, beam, row).reshape(values.shape)
            for station in path.returning:
                station.meet(beam)
            yield self._read(beam, leg)

    def _read(self, beam: Beam, leg: float) -> ReturnedLight:
        """Read one quadrature per mode at the end of the last leg, in the receiver's units."""
        verifier, factor = self._settings.verifier, self._path.oscillator_factor
        rows = beam.light.rows
        on_x = beam.generator.random(rows, dtype=np.float32) < np.float32(0.5)
        read: Floats = np.where(on_x[:, None], beam.field.real, beam.field.imag)
        blocked = 1.0 + verifier.electronic_noise
        read *= np.float32(math.sqrt(leg * factor * verifier.efficiency / blocked))
        # Vacuum of fibre and detector, technical and electronic noise, in one draw.
        light_noise = 1.0 - verifier.efficiency * leg
        light_noise += verifier.efficiency * self._settings.channel.technical_noise
        variance = (factor * light_noise + verifier.electronic_noise) / blocked
        if variance > 0.0:
            noise = beam.generator.standard_normal(read.shape, dtype=np.float32)
            noise *= np.float32(math.sqrt(variance))
            read += noise
        cosine = on_x.astype(np.float32)[:, None]
        return ReturnedLight(read, cosine, np.float32(1.0) - cosine)


def _receive(path: Path, beam: Beam, coefficients: Floats) -> Floats:
    """Pass the client's receiver; return the value of each block ([K,] rows, blocks).

    A client that filled modes with its own light knows that part of what its receiver reads: it
    takes it off, and puts what it read of those modes before in its place.
    """
    receiver, blocks = path.receiver, beam.light.blocks
    if not path.modes_cloned:
        return np.zeros(
            (len(np.atleast_2d(coefficients)), beam.light.rows, blocks.count), np.float32
        )
    honest = _directions(coefficients, blocks)
    modes = (
        honest
        if path.modes_cloned <= len(honest) // blocks.count
        else _more(honest, blocks, path.modes_cloned, beam)
    )
    collected = _collect(beam, modes)
    read, kicks = _clone(receiver, collected, beam)
    if not path.mismatch.matched:
        vacuum = beam.vacuum(*collected.shape)
        kicks = _single(path.mismatch.change(collected, kicks, vacuum))
    beam.field += kicks @ modes
    gain = np.float32(receiver.amplitude_gain)
    kept, own = None, np.zeros_like(read)
    if beam.replaced is not None:
        kept = ~beam.replaced.chosen
        read -= gain * _collected_of(beam.replaced.refill, beam.replaced.chosen, modes)
        own = gain * _collected_of(beam.replaced.outcomes, beam.replaced.chosen, modes)
    if path.notebook is not None:
        _note(path.notebook, receiver, beam, modes, read, kept)
    wanted = (read + own).real[:, : len(honest)].reshape(len(read), -1, blocks.count)
    return np.asarray(wanted.swapaxes(0, 1))


def _collected_of(field: Complex, chosen: Mask, modes: Complex) -> Complex:
    return np.asarray(np.where(chosen, field, np.complex64(0.0)) @ modes.conj().T)


def _note(
    notebook: Notebook,
    receiver: Receiver,
    beam: Beam,
    modes: Complex,
    read: Complex,
    kept: Mask | None,
) -> None:
    """Note what was read of each mode; a tap reads its P as well."""
    amplitude = receiver.amplitude_gain * math.sqrt(beam.transmittance)
    page, noise = notebook.layer(beam.light), receiver.measured_noise
    page.look_along(_interleaved(modes), read.real, amplitude, noise, kept)
    if isinstance(receiver, TapReceiver):
        turned = _interleaved(np.complex64(1j) * modes)
        page.look_along(turned, read.imag, amplitude, noise, kept)


def _interleaved(modes: Complex) -> Floats:
    return np.ascontiguousarray(modes).view(np.float32)


def _directions(coefficients: Floats, blocks: Blocks) -> Complex:
    """Return each block's collected modes (K blocks, n) over all modes of the row, K by K."""
    lines = np.atleast_2d(np.ascontiguousarray(coefficients, np.float32)).view(np.complex64)
    modes = np.zeros((len(lines), blocks.count, blocks.modes), np.complex64)
    for block, columns in enumerate(blocks.slices()):
        modes[:, block, columns] = lines[:, columns]
    return modes.reshape(-1, blocks.modes)


def _more(honest: Complex, blocks: Blocks, cloned: int, beam: Beam) -> Complex:
    """Return the collected modes and, after them, others drawn orthogonal to them."""
    found = [honest]
    for block, (columns, size) in enumerate(zip(blocks.slices(), blocks.sizes, strict=True)):
        own = honest[block :: blocks.count, columns].T
        others = max(min(cloned, size) - own.shape[1], 0)
        drawn = beam.vacuum(size, others)
        drawn -= own @ (own.conj().T @ drawn)
        modes = np.zeros((others, blocks.modes), np.complex64)
        modes[:, columns] = np.linalg.qr(drawn)[0].T
        found.append(modes)
    return np.concatenate(found)


def _collect(beam: Beam, modes: Complex) -> Complex:
    """Return b of each mode (rows, K); what a mode of less than unit norm lacks is vacuum."""
    collected: Complex = beam.field @ modes.conj().T
    lacking = np.maximum(1.0 - np.sum(np.abs(modes) ** 2, axis=1), 0.0)
    if (lacking > 1e-5).any():
        collected += np.sqrt(lacking).astype(np.float32) * beam.vacuum(*collected.shape)
    return collected


def _clone(receiver: Receiver, collected: Complex, beam: Beam) -> tuple[Complex, Complex]:
    """Return what the receiver reads of the collected modes and the noise that they take back.

    Of the amplifier's arm X is read, so that only the real part means anything.
    """
    first, second, detector = (beam.vacuum(*collected.shape) for _ in range(3))
    homodyne = receiver.homodyne
    detector *= np.float32(math.sqrt(1.0 - homodyne.efficiency + homodyne.electronic_noise))
    if isinstance(receiver, CloneReceiver):
        gain = receiver.gain
        idler = first * np.float32(math.sqrt(2.0 * receiver.emission_factor - 1.0))
        arm = math.sqrt(gain - 1.0) * collected + (gain - 1.0) / math.sqrt(gain) * idler
        arm -= second / math.sqrt(gain)
        read = math.sqrt(homodyne.efficiency) * arm + detector
        return _single(read), _single(math.sqrt(1.0 - 1.0 / gain) * (idler + second))
    tapped = math.sqrt(homodyne.efficiency * receiver.tap_transmittance / 2.0) * first
    read = receiver.amplitude_gain * collected - tapped + detector
    read += math.sqrt(homodyne.efficiency / 2.0) * second
    kicks = receiver.vacuum_amplitude * (first + second) + receiver.displacement * detector
    return _single(read), _single(kicks)


def _single(values: npt.NDArray[np.complexfloating]) -> Complex:
    return values.astype(np.complex64, copy=False)
