"""The mode-level link: every state is Gaussian, so drawing quadratures is exact.

Conventions of the joint draw, all in SNU. The client's mode b is sum c_k* a_k. The amplifier's
idler e and the splitter's vacuum v give the returned arm b + sqrt(1 - 1/G)(e* + v) and the
measured arm sqrt(G - 1) b + (G - 1)/sqrt(G) e* - v/sqrt(G). One normal number is drawn for each
quadrature that the server measures; the part of the client's noise that the same vacuum causes
is computed from it, the rest is drawn once per row and block. A tap instead of the amplifier
returns b + r (v + u) + k d and measures A b - sqrt(eta tau/2) v + sqrt(eta/2) u + d, with the
vacua v of the tap and u of the dual homodyne, the detectors' noise d, and r, k and A those of
`TapReceiver`. Behind either, a mismatched clone (`CloneMismatch`) multiplies mode b whole, its
light, its vacuum in both quadratures and the kick; a matched one draws no number for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.encoding import Blocks, Floats
from labctl.protocols.link import Exchange, LayerLight, MonitorReading, Reordered, ReturnedLight
from labctl.protocols.receiver import CloneReceiver, TapReceiver
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.protocols.streams import Streams

# Keys of streams of random numbers.
_CALIBRATION_STREAM = 0
_LAYER_STREAM = 1
# Streams of layers count upwards from theirs.
_MONITOR_STREAM = 2**31
# Few enough that their light stays in the cache and its thin matrix products on one thread.
_ROWS_AT_ONCE = 112


class ModeLink:
    """Draws measured values, and returned quadratures if asked, from the exact distributions.

    Streams of random numbers belong to layers and run over the images in order, so results do
    not depend on how images are grouped into batches.
    """

    def __init__(self, settings: SessionSettings) -> None:
        self._settings = settings
        self._streams = Streams(settings.seed)
        self._blocked_variance = 1.0 + settings.verifier.electronic_noise

    def calibrate(self) -> ReceiverCalibration:
        """Draw the sample variance of a blocked receiver: chi-squared over its samples."""
        samples = self._settings.verification.calibration_samples
        generator = self._streams.of(_CALIBRATION_STREAM)
        return ReceiverCalibration(
            efficiency=self._settings.verifier.efficiency,
            electronic_noise=self._settings.verifier.electronic_noise,
            blocked_variance=float(generator.chisquare(samples - 1) / (samples - 1)),
            samples=samples,
        )

    def monitor(self) -> MonitorReading | None:
        """Draw the variance of the blocked receiver again, from its own samples."""
        samples = self._settings.verification.monitor_samples
        if not samples:
            return None
        drawn = self._streams.of(_MONITOR_STREAM).chisquare(samples - 1) / (samples - 1)
        return MonitorReading(float(drawn), samples)

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        """Send a layer; see `Link.exchange`."""
        generator = self._streams.of(_LAYER_STREAM + light.layer)
        collected = self._settings.channel.rotation.collected(
            coefficients, light.blocks, self._settings.seed
        )
        measured = _products(light, collected)
        leg = self._settings.leg_transmittance_of(light.modes)
        measured *= np.float32(math.sqrt(leg) * self._settings.receiver.amplitude_gain)
        if self._settings.sampling is Sampling.ALL:
            modes = collected.reshape(len(collected), -1, collected.shape[-1])
            lines = measured.reshape(*modes.shape[:2], -1)
            returned = self._returned(light, modes, lines, generator)
            return Exchange(measured, returned, self._arriving(light))
        noise = generator.standard_normal(measured.shape, dtype=np.float32)
        noise *= np.float32(math.sqrt(self._settings.receiver.measured_noise))
        measured += noise
        return Exchange(measured, (), self._arriving(light))

    def exchange_reordered(self, reordered: Reordered, coefficients: Floats) -> Exchange:
        """Send light to all images at once, of which each gets its own order.

        Exact where the returned light is not drawn and the rotation treats all modes alike.
        """
        set_to = coefficients
        if reordered.columns is not None:
            inputs = reordered.columns.shape[1]
            set_to = coefficients.copy()
            columns = reordered.columns
            if coefficients.ndim > columns.ndim:
                shape = (*coefficients.shape[:2], inputs)
                columns = np.broadcast_to(columns[:, None], shape)
            # The client's slot i meets column columns[i] of the plain light.
            np.put_along_axis(set_to[..., :inputs], columns, coefficients[..., :inputs], -1)
        exchange = self.exchange(reordered.light, set_to)
        if reordered.rows is None:
            return exchange
        rows = reordered.rows if exchange.measured.ndim == 2 else reordered.rows[:, None]
        return replace(exchange, measured=np.take_along_axis(exchange.measured, rows, -1))

    def _arriving(self, light: LayerLight) -> npt.NDArray[np.float64]:
        """Return the mean photons of each block of each row behind the first leg's loss.

        The client's monitor is in front of its rotation.
        """
        return self._settings.leg_transmittance * light.photons

    def _returned(
        self,
        light: LayerLight,
        coefficients: Floats,
        measured: Floats,
        generator: np.random.Generator,
    ) -> Iterator[ReturnedLight]:
        """Yield each image's returned light and complete its measured values in place."""
        efficiency, blocks = self._settings.verifier.efficiency, light.blocks
        through = self._settings.transmittance_of(light.modes) * efficiency
        seen = self._settings.leg_transmittance_of(light.modes) * efficiency
        returned = np.empty((light.rows, light.modes), np.float32)
        bright = np.concatenate([light.x, light.p])
        bright *= np.float32(math.sqrt(through / self._blocked_variance))
        at_once = _ROWS_AT_ONCE * blocks.count
        for image_values, row in zip(measured, coefficients, strict=True):
            on_x = generator.random(light.rows, dtype=np.float32) < np.float32(0.5)
            # (2, K, n): real and imaginary part of each collected mode.
            halves = np.ascontiguousarray(np.moveaxis(row.reshape(len(row), -1, 2), 2, 0))
            chosen = np.arange(light.rows) + np.where(on_x, 0, light.rows)
            values = image_values.reshape(len(row), light.rows, blocks.count)
            bright_b = self._bright_b(light, row)
            for first in range(0, light.rows, at_once):
                part = slice(first, first + at_once)
                self._blocks(
                    blocks,
                    on_x[part],
                    halves,
                    values[:, part],
                    bright_b[:, part],
                    seen,
                    generator,
                    returned[part],
                )
                returned[part] += bright.take(chosen[part], axis=0)
            cosine = on_x.astype(np.float32)[:, None]
            yield ReturnedLight(returned, cosine, np.float32(1.0) - cosine)

    def _bright_b(self, light: LayerLight, modes: Floats) -> npt.NDArray[np.complex64]:
        """Return the mean of modes b at the clone (K, rows, blocks); 0 without a mismatch."""
        blocks = light.blocks
        bright = np.zeros((len(modes), light.rows, blocks.count), np.complex64)
        if self._settings.channel.clone_mismatch.matched:
            return bright
        sent, c = light.quadratures.view(np.complex64), modes.view(np.complex64)
        for block, columns in enumerate(blocks.slices()):
            bright[..., block] = c[:, columns].conj() @ sent[:, columns].T
        bright *= np.float32(math.sqrt(self._settings.leg_transmittance_of(light.modes)))
        return bright

    def _blocks(
        self,
        blocks: Blocks,
        on_x: npt.NDArray[np.bool_],
        halves: Floats,
        values: Floats,
        bright_b: npt.NDArray[np.complex64],
        seen: float,
        generator: np.random.Generator,
        returned: Floats,
    ) -> None:
        """Draw some rows of one image, block by block: `values` (K, rows, blocks), `returned`."""
        if blocks.count == 1:
            self._rows(on_x, halves, values[..., 0], bright_b[..., 0], seen, generator, returned)
            return
        for block, columns in enumerate(blocks.slices()):
            drawn = np.empty((len(on_x), blocks.sizes[block]), np.float32)
            own, bright = values[..., block], bright_b[..., block]
            self._rows(on_x, halves[..., columns], own, bright, seen, generator, drawn)
            returned[:, columns] = drawn

    def _rows(
        self,
        on_x: npt.NDArray[np.bool_],
        halves: Floats,
        row_values: Floats,
        bright_b: npt.NDArray[np.complex64],
        seen: float,
        generator: np.random.Generator,
        returned: Floats,
    ) -> None:
        """Draw one block of some rows of one image: `row_values` (K, rows) and `returned` noise.

        `halves` (2, K, b): real and imaginary coefficients. `bright_b` (K, rows): mean of the
        modes b at the clone. `seen`: transmittance from the clone to what the server detects.
        """
        settings = self._settings
        white = self._blocked_variance
        white += settings.verifier.efficiency * settings.channel.technical_noise
        generator.standard_normal(out=returned, dtype=np.float32)
        both = math.sqrt(seen / white) * (halves @ returned.T)
        fresh = generator.standard_normal((6, halves.shape[1], len(on_x)), dtype=np.float32)
        roots = _unseen(halves, seen / white, both=not settings.channel.clone_mismatch.matched)
        b_vacuum = np.where(on_x, both[0], both[1])
        b_vacuum += np.where(on_x, *(root.own @ fresh[0] for root in roots))
        receiver = settings.receiver
        if isinstance(receiver, TapReceiver):
            kicks_x, kicks_p = _tap(receiver, b_vacuum, fresh, row_values)
        else:
            kicks_x, kicks_p = _clone(receiver, b_vacuum, fresh, row_values)
        if not settings.channel.clone_mismatch.matched:
            drawn = generator.standard_normal(fresh.shape[1:], dtype=np.float32)
            b_conjugate = np.where(on_x, -both[1], both[0])
            b_conjugate += np.where(
                on_x, *(root.crossed @ fresh[0] + root.other @ drawn for root in roots)
            )
            mode = bright_b + (b_vacuum + 1j * b_conjugate)
            vacuum = generator.standard_normal((2, *fresh.shape[1:]), dtype=np.float32)
            changed = settings.channel.clone_mismatch.change(
                mode, kicks_x + 1j * kicks_p, vacuum[0] + 1j * vacuum[1]
            )
            kicks_x = changed.real.astype(np.float32)
            kicks_p = changed.imag.astype(np.float32)
        kicks = np.where(on_x, np.stack([kicks_x, -kicks_p]), np.stack([kicks_p, kicks_x]))
        kicks *= math.sqrt(seen / self._blocked_variance)
        returned *= np.float32(math.sqrt(white / self._blocked_variance))
        flat = halves.reshape(-1, halves.shape[2])
        returned += kicks.reshape(len(flat), -1).T.astype(np.float32) @ flat


@dataclass(frozen=True, eq=False)
class _Root:
    """Lower triangular root of a covariance of X (own) and P (other) of K modes, (K, K) each."""

    own: Floats
    crossed: Floats
    other: Floats


def _unseen(halves: Floats, seen: float, *, both: bool) -> tuple[_Root, _Root]:
    """Return the roots of what is left of the modes' vacuum when X, or P, of all modes is read.

    X_b = sum Re c X + Im c P and P_b = sum Re c P - Im c X; all have unit variance and are
    independent of each other for orthonormal modes. Readings of X show A = (Re c, -Im c) of them,
    readings of P (Im c, Re c), a share `seen` of the variance being the vacuum at the clone: what
    is left has covariance 1 - seen A A^T. `both`: whether P is asked for.
    """
    real, imaginary = halves
    pairs = (real, -imaginary), (imaginary, real)
    first, second = (np.concatenate(pair) if both else pair[0] for pair in pairs)
    return _root(first, seen, len(real)), _root(second, seen, len(real))


def _root(shown: Floats, seen: float, modes: int) -> _Root:
    left = np.eye(len(shown)) - seen * (shown @ shown.T).astype(np.float64)
    root = _lower(left).astype(np.float32)
    return _Root(root[:modes, :modes], root[modes:, :modes], root[modes:, modes:])


def _lower(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the lower triangular root of a covariance that may be singular, or so by rounding."""
    if len(covariance) == 1:
        return np.sqrt(np.maximum(covariance, 0.0))
    values, vectors = np.linalg.eigh(covariance)
    upper = np.linalg.qr((vectors * np.sqrt(np.maximum(values, 0.0))).T, mode="r")
    return np.asarray((np.where(np.diag(upper) < 0.0, -1.0, 1.0)[:, None] * upper).T)


def _products(light: LayerLight, coefficients: Floats) -> Floats:
    """Return the products (images, [K,] rows * blocks) of each block of each row with each mode."""
    blocks = light.blocks
    if blocks.count == 1:
        products = np.empty((*coefficients.shape[:-1], light.rows), np.float32)
        flat = coefficients.reshape(-1, coefficients.shape[-1])
        # All images and modes in one product: many small ones would take longer.
        np.matmul(flat, light.quadratures.T, out=products.reshape(len(flat), -1))
        return products
    products = np.empty((*coefficients.shape[:-1], light.rows * blocks.count), np.float32)
    for block, columns in enumerate(blocks.slices(2)):
        part = coefficients[..., columns] @ light.quadratures[:, columns].T
        products[..., block :: blocks.count] = part
    return products


def _clone(
    receiver: CloneReceiver, b_vacuum: Floats, fresh: Floats, row_values: Floats
) -> tuple[Floats, Floats]:
    """Add the measured arm's noise to `row_values`; return what X and P of b take back."""
    gain, homodyne = receiver.gain, receiver.homodyne
    idler = math.sqrt(2.0 * receiver.emission_factor - 1.0)
    idler_x, idler_p = idler * fresh[1], -idler * fresh[2]
    vacuum_x, vacuum_p = fresh[3], fresh[4]
    arm = math.sqrt(gain - 1.0) * b_vacuum
    arm += (gain - 1.0) / math.sqrt(gain) * idler_x - vacuum_x / math.sqrt(gain)
    detector = math.sqrt(1.0 - homodyne.efficiency + homodyne.electronic_noise) * fresh[5]
    row_values += (math.sqrt(homodyne.efficiency) * arm + detector).astype(np.float32)
    split = math.sqrt(1.0 - 1.0 / gain)
    return split * (idler_x + vacuum_x), split * (idler_p + vacuum_p)


def _tap(
    receiver: TapReceiver, b_vacuum: Floats, fresh: Floats, row_values: Floats
) -> tuple[Floats, Floats]:
    """Add the dual homodyne's noise in X to `row_values`; return what X and P of b take back."""
    efficiency = receiver.homodyne.efficiency
    tapped, added = fresh[1], fresh[2]
    detector = math.sqrt(1.0 - efficiency + receiver.homodyne.electronic_noise) * fresh[3]
    own = receiver.amplitude_gain * b_vacuum + detector
    own -= math.sqrt(efficiency * receiver.tap_transmittance / 2.0) * tapped
    own += math.sqrt(efficiency / 2.0) * added
    row_values += own.astype(np.float32)
    kicks_x = receiver.vacuum_amplitude * (tapped + added) + receiver.displacement * detector
    return kicks_x, math.sqrt(receiver.returned_noise) * fresh[4]
