"""The mode-level link: every state is Gaussian, so drawing quadratures is exact.

Conventions of the joint draw, all in SNU. The client's mode b is sum c_k* a_k. The amplifier's
idler e and the splitter's vacuum v give the returned arm b + sqrt(1 - 1/G)(e* + v) and the
measured arm sqrt(G - 1) b + (G - 1)/sqrt(G) e* - v/sqrt(G). One normal number is drawn for each
quadrature that the server measures; the part of the client's noise that the same vacuum causes
is computed from it, the rest is drawn once per row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.encoding import Floats
from labctl.protocols.link import Exchange, LayerLight, ReturnedLight
from labctl.protocols.settings import Sampling, SessionSettings

_CALIBRATION_STREAM = 0
_LAYER_STREAM = 1
# Few enough that a block stays in the cache and its thin matrix products on one thread.
_ROWS_AT_ONCE = 112


class ModeLink:
    """Draws measured values, and returned quadratures if asked, from the exact distributions.

    Streams of random numbers belong to layers and run over the images in order, so results do
    not depend on how images are grouped into batches.
    """

    def __init__(self, settings: SessionSettings) -> None:
        self._settings = settings
        self._generators: dict[int, np.random.Generator] = {}
        receiver = settings.receiver
        self._amplitude = np.float32(
            math.sqrt(settings.leg_transmittance) * receiver.amplitude_gain
        )
        verifier = settings.verifier
        self._blocked_variance = 1.0 + verifier.electronic_noise
        self._returned_amplitude = math.sqrt(
            settings.transmittance * verifier.efficiency / self._blocked_variance
        )

    def calibrate(self) -> ReceiverCalibration:
        """Draw the sample variance of a blocked receiver: chi-squared over its samples."""
        samples = self._settings.verification.calibration_samples
        generator = self._generator(_CALIBRATION_STREAM)
        return ReceiverCalibration(
            efficiency=self._settings.verifier.efficiency,
            electronic_noise=self._settings.verifier.electronic_noise,
            blocked_variance=float(generator.chisquare(samples - 1) / (samples - 1)),
            samples=samples,
        )

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        """Send a layer; see `Link.exchange`."""
        generator = self._generator(_LAYER_STREAM + light.layer)
        measured = coefficients @ light.quadratures.T
        measured *= self._amplitude
        if self._settings.sampling is Sampling.ALL:
            returned = self._returned(light, coefficients, measured, generator)
            return Exchange(measured, returned)
        noise = generator.standard_normal(measured.shape, dtype=np.float32)
        noise *= np.float32(math.sqrt(self._settings.receiver.measured_noise))
        measured += noise
        return Exchange(measured, ())

    def _generator(self, stream: int) -> np.random.Generator:
        if stream not in self._generators:
            seed = np.random.SeedSequence(self._settings.seed, spawn_key=(stream,))
            self._generators[stream] = np.random.Generator(np.random.SFC64(seed))
        return self._generators[stream]

    def _returned(
        self,
        light: LayerLight,
        coefficients: Floats,
        measured: Floats,
        generator: np.random.Generator,
    ) -> Iterator[ReturnedLight]:
        """Yield each image's returned light and complete its measured values in place."""
        returned = np.empty((light.rows, light.modes), np.float32)
        bright = np.concatenate([light.x, light.p]) * np.float32(self._returned_amplitude)
        for row_values, row in zip(measured, coefficients, strict=True):
            on_x = generator.random(light.rows, dtype=np.float32) < np.float32(0.5)
            halves = np.ascontiguousarray(row.reshape(-1, 2).T)
            chosen = np.arange(light.rows) + np.where(on_x, 0, light.rows)
            for first in range(0, light.rows, _ROWS_AT_ONCE):
                part = slice(first, first + _ROWS_AT_ONCE)
                self._rows(on_x[part], halves, row_values[part], generator, returned[part])
                returned[part] += bright.take(chosen[part], axis=0)
            cosine = on_x.astype(np.float32)[:, None]
            yield ReturnedLight(returned, cosine, np.float32(1.0) - cosine)

    def _rows(
        self,
        on_x: npt.NDArray[np.bool_],
        halves: Floats,
        row_values: Floats,
        generator: np.random.Generator,
        returned: Floats,
    ) -> None:
        """Draw some rows of one image: complete `row_values`, fill `returned` with the noise."""
        settings = self._settings
        white = self._blocked_variance
        white += settings.verifier.efficiency * settings.technical_noise
        seen = settings.leg_transmittance * settings.verifier.efficiency
        generator.standard_normal(out=returned, dtype=np.float32)
        both = returned @ halves.T
        projection = math.sqrt(seen / white) * np.where(on_x, both[:, 0], both[:, 1])
        unseen = 1.0 - seen / white * np.where(on_x, *np.einsum("ij,ij->i", halves, halves))
        fresh = generator.standard_normal((6, len(on_x)), dtype=np.float32)
        # A unit norm in float32 may lie above 1 by rounding.
        b_vacuum = projection + np.sqrt(np.maximum(unseen, 0.0)) * fresh[0]
        kicks_x, kicks_p = self._clone(b_vacuum, fresh, row_values)
        kicks = np.where(on_x, np.stack([kicks_x, -kicks_p]), np.stack([kicks_p, kicks_x]))
        kicks *= math.sqrt(seen / self._blocked_variance)
        returned *= np.float32(math.sqrt(white / self._blocked_variance))
        returned += kicks.T.astype(np.float32) @ halves

    def _clone(self, b_vacuum: Floats, fresh: Floats, row_values: Floats) -> tuple[Floats, Floats]:
        """Add the measured arm's noise to `row_values`; return what X and P of b take back."""
        receiver = self._settings.receiver
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
