"""What a server sees of one block of modes when the clone is mismatched: kick and mean together.

Theory of operation. With mismatch kappa a returned row r has, besides the kick, the mean q_r c with
q_r = kappa (c^dagger w_r) in the units of the reading. The likelihood of a template c needs of all
rows the scatter S, as before, and A = sum conj(q_r) y_r, the rows weighted with what they ought to
show. Both are linear in features that do not depend on the template once q is written in few
vectors of the rows' space, q = b V^dagger with the strongest right vectors V of all templates.

Draws are exact and do not grow with rows and repeats: a rotation among the rows, which leaves white
noise and kicks as they are, puts the means into as many rows as V has, and what V misses of the
image's own mean into one more (homodyne: twice as many real rows). These are drawn; the scatter of
all others follows `wishart`. Repeats with the same rows add means: one rotation among repeats puts
them into one sending of sqrt(R) times the amplitude.

Homodyne reads Re(e^(-i theta_r) y_r); theta is 0 or pi/2 at random, drawn once for all images. A
counter nulls the light that it expects: per row the mean amplitude q_r and the thermal kick
interfere, its counts in modes go as |c_k|^2 and those in rows as kick + |q_r|^2; both are used
unless there is background, which spoils the product form: then counts of modes alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.protocols.labels.reading import Detection, Reading
from labctl.studies.attacks.label_views import (
    MEAN_SHARE,
    CountingView,
    HeterodyneView,
    HomodyneView,
    View,
    flat,
)
from labctl.studies.attacks.wishart import Complexes, Reals, complex_scatter, real_scatter

# Which quadrature of each row is read does not depend on images; the client never learns it.
_QUADRATURES_SEED = 20_241


def joint_view(templates: Complexes, reading: Reading, light: Complexes, dimensions: int) -> View:
    """Return the view of one block: templates (T, b), light at the clone (rows, b) as X + iP."""
    shown = _ShownRows.of(templates, reading, light, dimensions)
    if reading.receiver is Detection.HETERODYNE:
        plain = HeterodyneView.of(templates, reading, dimensions)
        return HeterodyneJoint(plain, shown, reading.repeats)
    if reading.receiver is Detection.HOMODYNE:
        view = HomodyneView.of(templates, reading, dimensions)
        drawn = np.random.default_rng(_QUADRATURES_SEED).random(len(light)) < 0.5
        return HomodyneJoint.of(view, shown, reading.repeats, np.where(drawn, 1.0, -1j))
    counting = CountingView.of(templates, reading, dimensions)
    return CountingJoint(counting, shown, reading.repeats)


def unit_of(reading: Reading) -> float:
    """Return the amplitude of a reading per unit of X + iP at the clone's output.

    Vacuum units of the view: variance 1 (homodyne), E|z|^2 1 (heterodyne), photons (counting).
    """
    if reading.receiver is Detection.COUNTING:
        return 0.5 * math.sqrt(reading.transmittance)
    if reading.receiver is Detection.HETERODYNE:
        return math.sqrt(reading.transmittance / (2.0 * (2.0 + reading.technical_noise)))
    return math.sqrt(reading.transmittance / (reading.vacuum_variance + reading.technical_noise))


@dataclass(frozen=True, eq=False)
class _ShownRows:
    """The means that rows show: q = kappa unit (c^dagger w_r), and their strongest vectors.

    `light` (rows, b) in the reading's units, kappa included; `right` (rows, k): orthonormal V.
    """

    light: Complexes
    right: Complexes

    @classmethod
    def of(
        cls, templates: Complexes, reading: Reading, light: Complexes, dimensions: int
    ) -> _ShownRows:
        scaled = np.asarray(reading.mismatch.kappa * unit_of(reading) * light, np.complex64)
        moments = templates.T @ templates.conj()
        weights = scaled.conj() @ moments @ scaled.T
        _, vectors = np.linalg.eigh(weights.astype(np.complex128))
        kept = min(dimensions, len(light))
        return cls(scaled, np.ascontiguousarray(vectors[:, ::-1][:, :kept], np.complex64))

    def means(self, directions: Complexes) -> Complexes:
        """Return q (B, rows)."""
        return np.asarray(directions.conj() @ self.light.T)

    def strengths(self, directions: Complexes) -> Complexes:
        """Return b = q V (B, k)."""
        return np.asarray(directions.conj() @ (self.light.T @ self.right))


@dataclass(frozen=True, eq=False)
class HeterodyneJoint:
    """Scatter and weighted rows of both quadratures."""

    plain: HeterodyneView
    shown: _ShownRows
    repeats: int

    def observe(self, generator: np.random.Generator, directions: Complexes) -> Reals:
        """Return features (B, F) of inputs of these directions (B, b)."""
        inside = directions @ self.plain.basis.conj()
        means = math.sqrt(self.repeats) * self.shown.means(directions)
        along = means @ self.shown.right
        missed = np.maximum(
            np.sum(np.abs(means) ** 2, axis=1) - np.sum(np.abs(along) ** 2, axis=1), 0.0
        )
        explicit = min(along.shape[1] + 1, self.plain.samples)
        amplitudes = np.concatenate([along, np.sqrt(missed)[:, None]], axis=1)[:, :explicit]
        kicks = math.sqrt(self.plain.spike) * _circular(generator, amplitudes.shape)
        read = _circular(generator, (*amplitudes.shape, inside.shape[1]))
        read = read + (amplitudes + kicks)[:, :, None] * inside[:, None, :]
        scatter = read.swapaxes(1, 2) @ read.conj()
        others = self.plain.samples - explicit
        if others:
            scatter = scatter + complex_scatter(generator, inside, self.plain.spike, others)
        weighted = math.sqrt(self.repeats) * read[:, : along.shape[1]]
        both = np.concatenate([flat(weighted.real), flat(weighted.imag)], axis=1)
        return np.concatenate([self.plain.features(scatter.astype(np.complex64)), both], axis=1)

    def weights(self, templates: Complexes) -> tuple[Reals, Reals]:
        """Return slopes (T, F) and biases (T,) of the log likelihoods."""
        slopes, bias = self.plain.weights(templates)
        inside = templates @ self.plain.basis.conj()
        power = np.sum(np.abs(inside) ** 2, axis=1)
        inverse = 1.0 / (1.0 + self.plain.spike * power)
        strengths = self.shown.strengths(templates)
        outer = 2.0 * (strengths * inverse[:, None])[:, :, None] * inside[:, None, :]
        shown = np.sum(np.abs(strengths) ** 2, axis=1) * power * inverse
        joined = np.concatenate([slopes, flat(outer.real), flat(outer.imag)], axis=1)
        return joined, np.asarray(bias - self.repeats * shown, np.float32)


@dataclass(frozen=True, eq=False)
class HomodyneJoint:
    """Scatter and weighted rows of one quadrature per row.

    For draws with one choice of quadratures: `phases` (rows,) e^(-i theta), `turned` (rows, k)
    V^* e^(-i theta), `axes` (rows, e) an orthonormal basis of its real and imaginary parts, None
    where it takes all rows, `squares` (k, k) turned^T turned. Without `phases` each image has
    its own, as in a session, and its squares are features.
    """

    plain: HomodyneView
    shown: _ShownRows
    repeats: int
    phases: Complexes | None = None
    turned: Complexes | None = None
    axes: Reals | None = None
    squares: Complexes | None = None

    @classmethod
    def of(
        cls,
        plain: HomodyneView,
        shown: _ShownRows,
        repeats: int,
        phases: npt.NDArray[np.complexfloating],
    ) -> HomodyneJoint:
        """Return the view; `phases` (rows,) are e^(-i theta)."""
        turned = np.asarray(shown.right.conj() * phases[:, None], np.complex64)
        rows, kept = turned.shape
        # Two rows more hold what the vectors miss of an image's mean.
        few = rows < 2 * kept + 2
        both = np.concatenate([turned.real, turned.imag], axis=1).astype(np.float64)
        axes = None if few else np.linalg.qr(both)[0].astype(np.float32)
        squares = turned.T @ turned
        return cls(plain, shown, repeats, phases.astype(np.complex64), turned, axes, squares)

    def observe(self, generator: np.random.Generator, directions: Complexes) -> Reals:
        """Return features (B, F) of inputs of these directions (B, b)."""
        assert self.phases is not None
        assert self.turned is not None
        inside = directions @ self.plain.basis
        along = np.stack([inside.real, -inside.imag], axis=1)
        means = math.sqrt(self.repeats) * self.shown.means(directions) * self.phases
        parts: Reals = np.stack([means.real, means.imag], axis=2).astype(np.float32)
        turned, axes = self.turned, self.axes
        if axes is not None:
            placed = axes.T @ parts
            # QR of two columns: what the axes miss, in two rows of an upper triangle.
            parts = np.concatenate([placed, _triangle(parts - axes @ placed)], axis=1)
            turned = np.asarray(axes.T @ turned)
        kicks = np.float32(math.sqrt(self.plain.spike)) * generator.standard_normal(
            parts.shape, np.float32
        )
        read = generator.standard_normal((*parts.shape[:2], inside.shape[1]), np.float32)
        read += np.asarray((parts + kicks) @ along, np.float32)
        scatter = read.swapaxes(1, 2) @ read
        others = self.plain.samples - parts.shape[1]
        if others:
            scatter = scatter + real_scatter(generator, inside, self.plain.spike, others)
        weighted = math.sqrt(self.repeats) * (turned.T @ read[:, : len(turned)])
        return self.features(scatter.astype(np.float32), weighted.astype(np.complex64))

    def seen(self, inside: Reals, phases: Complexes) -> tuple[Complexes, Complexes]:
        """Return weighted rows (k, d) and squares (k, k) of rows (rows, d) read at `phases`."""
        turned = self.shown.right.conj() * phases[:, None]
        return np.asarray(turned.T @ inside), np.asarray(turned.T @ turned)

    def features(
        self, scatter: Reals, weighted: Complexes, squares: Complexes | None = None
    ) -> Reals:
        """Return the features of scatter (B, d, d) and rows weighted with `turned`, (B, k, d).

        `squares` (B, k, k): of all repeats, where each image has its own phases.
        """
        parts = [self.plain.features(scatter), flat(weighted.real), flat(weighted.imag)]
        if squares is not None:
            parts += [flat(squares.real), flat(squares.imag)]
        return np.concatenate(parts, axis=1)

    def weights(self, templates: Complexes) -> tuple[Reals, Reals]:
        """Return slopes (T, F) and biases (T,) of the log likelihoods."""
        slopes, bias = self.plain.weights(templates)
        inside = templates @ self.plain.basis
        # c = e^(-i turn) (a + i b) with orthogonal real a and b, axes of the covariance.
        turn = np.exp(-0.5j * np.angle(np.sum(inside**2, axis=1)))
        axes = turn[:, None] * inside
        one = 1.0 / (1.0 + self.plain.spike * np.sum(axes.real**2, axis=1))
        two = 1.0 / (1.0 + self.plain.spike * np.sum(axes.imag**2, axis=1))
        inverted = axes.real * one[:, None] + 1j * axes.imag * two[:, None]
        inverted = inverted * turn.conj()[:, None]
        strengths = self.shown.strengths(templates)
        outer = strengths[:, :, None] * inverted[:, None, :]
        # sum m^T K m of the means m = Re(q c), K being the inverse of the covariance.
        power = np.sum((inside.conj() * inverted).real, axis=1)
        square = np.sum(inside * inverted, axis=1)
        shown = np.sum(np.abs(strengths) ** 2, axis=1) * power
        parts = [slopes, flat(outer.real), flat(-outer.imag)]
        if self.squares is None:
            pairs = 0.25 * square[:, None, None] * strengths[:, :, None] * strengths[:, None, :]
            parts += [flat(-pairs.real), flat(pairs.imag)]
        else:
            turned = np.sum((strengths @ self.squares) * strengths, axis=1)
            shown = shown + (turned * square).real
        joined = np.concatenate(parts, axis=1)
        return joined, np.asarray(bias - 0.25 * self.repeats * shown, np.float32)


@dataclass(frozen=True, eq=False)
class CountingJoint:
    """Photons per mode and, where nothing but the clone sends any, per row."""

    plain: CountingView
    shown: _ShownRows
    repeats: int

    @property
    def _by_row(self) -> bool:
        return self.plain.background == 0.0

    def observe(self, generator: np.random.Generator, directions: Complexes) -> Reals:
        """Return features (B, F) of inputs of these directions (B, b)."""
        means = np.abs(self.shown.means(directions)) * math.sqrt(self.repeats)
        kick = self.plain.photons
        if not self._by_row:
            # As all kicks do, kicks and means of all rows go into one row by a rotation.
            total = np.sqrt(np.sum(means**2, axis=1))
            intensity = _intensity(generator, total, kick, self.plain.samples)[:, None]
            return self._with_background(generator, directions, np.sqrt(intensity))
        rows = _intensity(generator, means, kick, self.repeats)
        power = np.abs(directions) ** 2
        by_row = generator.poisson(rows * np.sum(power, axis=1, keepdims=True))
        share = power / np.maximum(np.sum(power, axis=1, keepdims=True), 1e-30)
        share = share.astype(np.float64)
        share /= np.maximum(share.sum(axis=1, keepdims=True), 1e-30)
        by_mode = generator.multinomial(by_row.sum(axis=1), share)
        return np.concatenate([by_mode, by_row], axis=1).astype(np.float32)

    def _with_background(
        self, generator: np.random.Generator, directions: Complexes, amplitude: Reals
    ) -> Reals:
        level, samples = self.plain.background, self.plain.samples
        white = math.sqrt(level) * _circular(generator, directions.shape)
        intensity = np.abs(white + amplitude * directions) ** 2
        if samples > 1:
            intensity = intensity + level * generator.gamma(samples - 1, size=directions.shape)
        return generator.poisson(intensity).astype(np.float32)

    def weights(self, templates: Complexes) -> tuple[Reals, Reals]:
        """Return slopes (T, F) and biases (T,) of the log likelihoods."""
        kick, level = self.plain.photons, self.plain.background
        shape = (1.0 - MEAN_SHARE) * np.abs(templates) ** 2 + MEAN_SHARE * self.plain.mean
        means = self.repeats * np.abs(self.shown.means(templates)) ** 2
        kicked = self.plain.samples * kick
        rates = (kicked + np.sum(means, axis=1))[:, None] * shape + self.plain.samples * level
        slopes = np.log(rates)
        if self._by_row:
            mean = (1.0 - MEAN_SHARE) * means + MEAN_SHARE * np.mean(means, axis=0)
            rows = kick * self.repeats + mean
            by_row = np.log(rows / np.sum(rows, axis=1, keepdims=True))
            slopes = np.concatenate([slopes, by_row], axis=1)
        return slopes.astype(np.float32), -np.sum(rates, axis=1).astype(np.float32)


def _intensity(
    generator: np.random.Generator, amplitude: npt.NDArray[np.floating], kick: float, draws: int
) -> npt.NDArray[np.float64]:
    """Return the sum of |a + e|^2 over `draws` thermal e of `kick` photons, sum |a|^2 given."""
    first = np.abs(amplitude + math.sqrt(kick) * _circular(generator, amplitude.shape)) ** 2
    if draws > 1:
        first = first + kick * generator.gamma(draws - 1, size=amplitude.shape)
    return np.asarray(first, np.float64)


def _triangle(columns: Reals) -> Reals:
    """Return R (B, 2, 2) of the QR decomposition of (B, rows, 2)."""
    gram = (columns.swapaxes(1, 2) @ columns).astype(np.float64)
    first = np.sqrt(np.maximum(gram[:, 0, 0], 0.0))
    cross = gram[:, 0, 1] / np.maximum(first, 1e-30)
    second = np.sqrt(np.maximum(gram[:, 1, 1] - cross**2, 0.0))
    found = np.zeros((len(columns), 2, 2), np.float32)
    found[:, 0, 0], found[:, 0, 1], found[:, 1, 1] = first, cross, second
    return found


def _circular(generator: np.random.Generator, shape: tuple[int, ...]) -> Complexes:
    halves = generator.standard_normal((*shape, 2), np.float32) * np.float32(math.sqrt(0.5))
    return halves.view(np.complex64)[..., 0]
