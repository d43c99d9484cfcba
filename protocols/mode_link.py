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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.encoding import Floats
from labctl.protocols.link import Exchange, LayerLight, MonitorReading, Reordered, ReturnedLight
from labctl.protocols.receiver import CloneReceiver, TapReceiver
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.protocols.streams import Streams

# Keys of streams of random numbers.
_CALIBRATION_STREAM = 0
_LAYER_STREAM = 1
# Streams of layers count upwards from theirs.
_MONITOR_STREAM = 2**31
# Streams of phases count upwards from theirs; networks have fewer layers than are between.
_PHASE_STREAM = 2**30
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
        measured = self._turned(light, collected, _products(light, collected))
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

    def _turned(self, light: LayerLight, collected: Floats, products: Floats) -> Floats:
        """Return X of modes b as a client with its own laser sees it: X cos d + P sin d.

        d is the error of the row's phase. The clone's noise is the same in all quadratures; only
        what it has in common with the returned light is not turned along.
        """
        if self._settings.oscillator is None:
            return products
        spread = math.sqrt(self._settings.phase_rad2_of(light.modes))
        generator = self._streams.of(_PHASE_STREAM + light.layer)
        error = np.float32(spread) * generator.standard_normal(products.shape, dtype=np.float32)
        # P of b is X of the mode with coefficients i c.
        crossed = np.empty_like(collected)
        crossed[..., 0::2], crossed[..., 1::2] = -collected[..., 1::2], collected[..., 0::2]
        across = _products(light, crossed)
        turned: Floats = products * np.cos(error) + across * np.sin(error)
        return turned

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
        amplitude = np.float32(math.sqrt(through / self._blocked_variance))
        columns, at_once = blocks.slices(), _ROWS_AT_ONCE * blocks.count
        scratch = np.empty((min(at_once, light.rows), light.modes), np.float32)
        for image_values, row in zip(measured, coefficients, strict=True):
            on_x = generator.random(light.rows, dtype=np.float32) < np.float32(0.5)
            # (2, K, n): real and imaginary part of each collected mode.
            halves = np.ascontiguousarray(np.moveaxis(row.reshape(len(row), -1, 2), 2, 0))
            collected = self._collected([halves[..., each] for each in columns], columns, seen)
            values = image_values.reshape(len(row), light.rows, blocks.count).transpose(2, 0, 1)
            bright_b, chosen = self._bright_b(light, row), light.rows_read(on_x)
            # Few enough rows that their light stays in the cache until it is complete.
            for first in range(0, light.rows, at_once):
                part = slice(first, first + at_once)
                lines, sent = returned[part], scratch[: len(chosen[part])]
                bright = None if bright_b is None else bright_b[..., part]
                self._rows(on_x[part], collected, values[..., part], bright, generator, lines, sent)
                light.by_quadrature.take(chosen[part], 0, sent, "clip")
                sent *= amplitude
                lines += sent
            cosine = on_x.astype(np.float32)[:, None]
            yield ReturnedLight(returned, cosine, np.float32(1.0) - cosine)

    def _collected(self, halves: list[Floats], columns: Sequence[slice], seen: float) -> _Collected:
        """Return what one image's light is drawn with; `halves` (2, K, b) of each block."""
        settings = self._settings
        white = (
            self._blocked_variance + settings.verifier.efficiency * settings.channel.technical_noise
        )
        return _Collected(
            halves,
            columns,
            _Roots.of(halves, seen / white, both=not settings.channel.clone_mismatch.matched),
            math.sqrt(seen / white),
            math.sqrt(seen / self._blocked_variance),
            np.float32(math.sqrt(white / self._blocked_variance)),
        )

    def _bright_b(self, light: LayerLight, modes: Floats) -> npt.NDArray[np.complex64] | None:
        """Return the mean of modes b at the clone (blocks, K, rows); None without a mismatch."""
        if self._settings.channel.clone_mismatch.matched:
            return None
        sent, c = light.quadratures.view(np.complex64), modes.view(np.complex64)
        bright = np.stack(
            [c[:, columns].conj() @ sent[:, columns].T for columns in light.blocks.slices()]
        )
        bright *= np.float32(math.sqrt(self._settings.leg_transmittance_of(light.modes)))
        return bright

    def _rows(
        self,
        on_x: npt.NDArray[np.bool_],
        collected: _Collected,
        values: Floats,
        bright_b: npt.NDArray[np.complex64] | None,
        generator: np.random.Generator,
        returned: Floats,
        scratch: Floats,
    ) -> None:
        """Draw some rows of one image: `values` (blocks, K, rows), `returned` without the light.

        `bright_b` (blocks, K, rows): mean of the modes b at the clone.
        """
        numbers = 6 if bright_b is None else 9
        shown = np.empty((2, *values.shape), np.float32)
        fresh = np.empty((numbers, *values.shape), np.float32)
        for block, (own, place) in enumerate(zip(collected.halves, collected.columns, strict=True)):
            whole = len(collected.halves) == 1
            drawn = returned if whole else np.empty((len(returned), own.shape[2]), np.float32)
            generator.standard_normal(out=drawn, dtype=np.float32)
            shown[:, block] = own @ drawn.T
            fresh[:, block] = generator.standard_normal(
                (numbers, *values.shape[1:]), dtype=np.float32
            )
            if not whole:
                returned[:, place] = drawn
        shown *= collected.vacuum
        kicks = self._kicks(on_x, collected.roots, shown, fresh, values, bright_b)
        kicks *= collected.back
        if collected.noise != 1.0:
            returned *= collected.noise
        for block, (own, place) in enumerate(zip(collected.halves, collected.columns, strict=True)):
            flat = own.reshape(-1, own.shape[2])
            np.matmul(kicks[:, block].reshape(len(flat), -1).T, flat, out=scratch[:, place])
        returned += scratch

    def _kicks(
        self,
        on_x: npt.NDArray[np.bool_],
        roots: _Roots,
        shown: Floats,
        fresh: Floats,
        values: Floats,
        bright_b: npt.NDArray[np.complex64] | None,
    ) -> Floats:
        """Complete `values` (blocks, K, rows) and return what modes b take back.

        `shown` (2, blocks, K, rows): what X and P of the modes b have of the vacuum read; `fresh`
        (6 or 9, blocks, K, rows): further normal numbers. Returns (2, blocks, K, rows), for the
        real and the imaginary coefficients.
        """
        receiver, mismatch = self._settings.receiver, self._settings.channel.clone_mismatch
        b_vacuum = np.where(on_x, shown[0], shown[1])
        b_vacuum += roots.chosen(roots.own, on_x, fresh[0])
        if isinstance(receiver, TapReceiver):
            kicks = _tap(receiver, b_vacuum, fresh, values)
        else:
            kicks = _clone(receiver, b_vacuum, fresh, values)
        if bright_b is not None:
            drawn, vacuum = fresh[6], fresh[7:]
            b_conjugate = np.where(on_x, -shown[1], shown[0])
            b_conjugate += roots.chosen(roots.crossed, on_x, fresh[0]) + roots.chosen(
                roots.other, on_x, drawn
            )
            mode = bright_b + (b_vacuum + 1j * b_conjugate)
            changed = mismatch.change(mode, kicks[0] + 1j * kicks[1], vacuum[0] + 1j * vacuum[1])
            kicks = np.stack([changed.real, changed.imag]).astype(np.float32)
        turned: Floats = np.where(on_x, kicks, kicks[::-1])
        np.negative(turned[1], out=turned[1], where=on_x)
        return turned


@dataclass(frozen=True, eq=False)
class _Collected:
    """What the client collects of one image's light, and amplitudes that it is drawn with.

    `halves` (2, K, b) of each block: real and imaginary coefficients of its modes, which are in
    `columns`. `vacuum`: share of the vacuum read that was at the clone; `back`: of what the clone
    adds, at the receiver; `noise`: of the noise without the clone's.
    """

    halves: list[Floats]
    columns: Sequence[slice]
    roots: _Roots
    vacuum: float
    back: float
    noise: np.float32


@dataclass(frozen=True, eq=False)
class _Roots:
    """Lower triangular roots of covariances of X (own) and P (other) of K modes, by block.

    Each (2, blocks, K, K): where X, and where P, of all modes is read.
    """

    own: Floats
    crossed: Floats
    other: Floats

    @classmethod
    def of(cls, halves: list[Floats], seen: float, *, both: bool) -> _Roots:
        """Return those of what is left of the modes' vacuum when X, or P, of all modes is read.

        X_b = sum Re c X + Im c P and P_b = sum Re c P - Im c X; all have unit variance and are
        independent of each other for orthonormal modes. Readings of X show A = (Re c, -Im c) of
        them, readings of P (Im c, Re c), a share `seen` of the variance being the vacuum at the
        clone: what is left has covariance 1 - seen A A^T. `halves`: (2, K, b) of each block.
        `both`: whether P is asked for.
        """
        roots: list[list[Floats]] = [[], []]
        for real, imaginary in halves:
            for found, pair in zip(roots, ((real, -imaginary), (imaginary, real)), strict=True):
                found.append(_root(np.concatenate(pair) if both else pair[0], seen))
        whole, modes = np.array(roots), len(halves[0][0])
        return cls(
            whole[..., :modes, :modes], whole[..., modes:, :modes], whole[..., modes:, modes:]
        )

    @staticmethod
    def chosen(root: Floats, on_x: npt.NDArray[np.bool_], numbers: Floats) -> Floats:
        """Return roots times numbers (blocks, K, rows), as X or P of each row is read."""
        found: Floats
        if root.shape[-1] == 1:
            found = np.where(on_x, root[0], root[1]) * numbers
        else:
            found = np.where(on_x, root[0] @ numbers, root[1] @ numbers)
        return found


def _root(shown: Floats, seen: float) -> Floats:
    taken = seen * (shown @ shown.T).astype(np.float64)
    if len(taken) == 1:
        return np.sqrt(np.maximum(1.0 - taken, 0.0)).astype(np.float32)
    return _lower(np.eye(len(taken)) - taken).astype(np.float32)


def _lower(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the lower triangular root of a covariance that may be singular, or so by rounding."""
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


def _clone(receiver: CloneReceiver, b_vacuum: Floats, fresh: Floats, values: Floats) -> Floats:
    """Add the measured arm's noise to `values`; return what X and P of b take back (2, ...)."""
    gain, homodyne = receiver.gain, receiver.homodyne
    idler = math.sqrt(2.0 * receiver.emission_factor - 1.0)
    idlers, vacua = fresh[1:3], fresh[3:5]
    idlers[0] *= idler
    idlers[1] *= -idler
    arm = math.sqrt(gain - 1.0) * b_vacuum
    arm += (gain - 1.0) / math.sqrt(gain) * idlers[0] - vacua[0] / math.sqrt(gain)
    arm *= math.sqrt(homodyne.efficiency)
    arm += math.sqrt(1.0 - homodyne.efficiency + homodyne.electronic_noise) * fresh[5]
    values += arm
    kicks: Floats = idlers + vacua
    kicks *= math.sqrt(1.0 - 1.0 / gain)
    return kicks


def _tap(receiver: TapReceiver, b_vacuum: Floats, fresh: Floats, values: Floats) -> Floats:
    """Add the dual homodyne's noise to `values`; return what X and P of b take back (2, ...)."""
    efficiency = receiver.homodyne.efficiency
    tapped, added = fresh[1], fresh[2]
    detector = math.sqrt(1.0 - efficiency + receiver.homodyne.electronic_noise) * fresh[3]
    own = receiver.amplitude_gain * b_vacuum + detector
    own -= math.sqrt(efficiency * receiver.tap_transmittance / 2.0) * tapped
    own += math.sqrt(efficiency / 2.0) * added
    values += own
    kicks_x = receiver.vacuum_amplitude * (tapped + added) + receiver.displacement * detector
    return np.stack([kicks_x, math.sqrt(receiver.returned_noise) * fresh[4]])
