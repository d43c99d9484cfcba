"""What a server sees of a client that clones several directions: their span, and how likely one is.

Theory of operation. A client with decoys clones K = J + 1 orthonormal modes u_k of a row. Row r
returns with sum_k u_k (q_kr + e_kr) left of it, q_kr = kappa u_k^dagger w_r by the mismatch, e_kr
the kicks. Read quadratures are y = B (alpha + gamma) + white noise of variance 1, B holding Re and
Im of the modes, alpha the means, gamma normal numbers of variance `spike`: homodyne reads
Re(e^(-i theta_r) y_r), heterodyne Re and Im side by side. Rows are drawn as they are, each with its
quadrature; nothing is approximated there.

The likelihood of a set of pictures is that of the projector on their span, kick and mean together,
all in it. Asked is always for one place of the set, the others given: with V the inverse covariance
of these, y' what their means leave, r the part of the picture that is orthogonal to them,
b = (Re r, Im r), p = b^T V b and h = 1 + spike p (2 x 2)

    -M/2 log det h + spike/2 tr h^-1 b^T V S' V b + tr h^-1 b^T V sum y' alpha_b^T
    - 1/2 tr (sum alpha_b alpha_b^T) h^-1 p,          S' = sum y' y'^T,

the textbook update of a Gaussian model by a low rank. Sums over rows are kept, in the `dimensions`
strongest principal components of the pictures; weights w_r in the same way.

A counter nulls the light that it expects and looks at single photons, their mode and row. Photons
are taken as independent, of the rate |(P kappa w_r)_j|^2 + kick P_jj: exact for few photons per
mode, bunching is left aside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from labctl.errors import SettingError
from labctl.protocols.labels.reading import Detection, Reading
from labctl.studies.attacks.label_joint import unit_of
from labctl.studies.attacks.label_views import MEAN_SHARE, strongest
from labctl.studies.attacks.wishart import Complexes, Reals

Places = npt.NDArray[np.intp]
Scores = npt.NDArray[np.float64]

# Less of a picture than this outside of the span of the others is none: its square.
_LEAST_APART = 1e-2


class Among(Protocol):
    """The likelihood of some pictures of the gallery, given one image's returned light."""

    def given(self, others: Places) -> Scores:
        """Return log likelihoods (C,) of each picture beside the pictures `others` (J,).

        Up to a constant; -inf for those in the span of the others.
        """
        ...


class SpanSeen(Protocol):
    """What returned of one image."""

    def alone(self) -> Scores:
        """Return log likelihoods (T,) of each picture of the gallery alone."""
        ...

    def among(self, candidates: Places) -> Among:
        """Return the likelihoods among some pictures (C,) of the gallery."""
        ...


class SpanView(Protocol):
    """A way of reading."""

    def observe(self, generator: np.random.Generator, modes: Complexes) -> SpanSeen:
        """Draw what returns of one image whose client collects modes (K, n), orthonormal."""
        ...


def span_view(
    gallery: Complexes,
    reading: Reading,
    light: Complexes | None,
    dimensions: int,
    together: int,
) -> SpanView:
    """Return the view of whole rows.

    gallery: (T, n), unit norm, what pictures set a receiver to. light: X + iP (rows, n) in SNU at
    the clone, None for a matched one. together: K. Raises SettingError for blocks, and for a
    counter that sees more than the clone.
    """
    if reading.block_modes is not None:
        raise SettingError("block_modes", reading.block_modes, "none: whole rows are modelled")
    if light is None:
        light = np.zeros((reading.rows, gallery.shape[1]), np.complex64)
    scaled = np.asarray(reading.mismatch.kappa * unit_of(reading) * light, np.complex64)
    if reading.receiver is Detection.COUNTING:
        if reading.background > 0.0:
            raise SettingError("background photons", reading.background, "0: not modelled")
        return PhotonView(gallery, scaled, reading, together)
    return QuadratureView.of(gallery, scaled, reading, dimensions)


@dataclass(frozen=True, eq=False)
class QuadratureView:
    """Homodyne or heterodyne.

    `basis` (n, D): of the rows read. `axes` (n, e): of the light. `light` (rows, n): what a
    mismatch shows of it, in units of the reading. `seen` (T, D) and `shown` (T, e): the gallery.
    """

    gallery: Complexes
    light: Complexes
    reading: Reading
    basis: npt.NDArray[np.complexfloating]
    axes: Complexes
    seen: Complexes
    shown: Complexes

    @classmethod
    def of(
        cls, gallery: Complexes, light: Complexes, reading: Reading, dimensions: int
    ) -> QuadratureView:
        """Return the view; see `span_view`."""
        moments = gallery.T @ gallery.conj()
        both = reading.receiver is Detection.HETERODYNE
        basis = strongest(moments if both else moments.real, min(dimensions, len(moments)))
        if both:
            # Read is (Re, Im) of u: Re of (u, -iu); (Im, -Re) is its Im.
            inverse = basis.conj()
            basis = np.concatenate([inverse, -1j * inverse], axis=1)
            light = np.asarray(math.sqrt(2.0) * light, np.complex64)
        kept = min(dimensions, len(moments)) if light.any() else 1
        axes = np.asarray(strongest(moments, kept).conj(), np.complex64)
        seen = np.asarray(gallery @ basis, np.complex64)
        shown = np.asarray(gallery @ axes, np.complex64)
        return cls(gallery, light, reading, basis, axes, seen, shown)

    def observe(self, generator: np.random.Generator, modes: Complexes) -> QuadratureSeen:
        """Draw all rows of one image; see `SpanView`."""
        return self.summed(*self.rows(generator, modes))

    def rows(self, generator: np.random.Generator, modes: Complexes) -> tuple[Reals, Complexes]:
        """Return what is read (rows * repeats, D) of one image, and each row's e^(-i theta)."""
        samples, spike = self.reading.samples, np.float32(math.sqrt(self.reading.spike))
        phases = np.ones(samples, np.complex64)
        if self.reading.receiver is Detection.HOMODYNE:
            phases[generator.random(samples) < 0.5] = -1j
        means = np.tile(self.light @ modes.conj().T, (self.reading.repeats, 1))
        means = means * phases[:, None]
        inside = np.asarray(modes @ self.basis, np.complex64)
        both = np.concatenate([inside.real, inside.imag])
        kicked: Reals = np.concatenate([means.real, -means.imag], axis=1).astype(np.float32)
        kicked += spike * generator.standard_normal(kicked.shape, np.float32)
        read = generator.standard_normal((samples, both.shape[1]), np.float32)
        read += kicked @ both
        return read, phases

    def summed(self, read: Reals, phases: Complexes) -> QuadratureSeen:
        """Return the sums over rows that likelihoods need; arguments as `rows` returns them."""
        light = (self.light @ self.axes).astype(np.complex128)
        turned = np.asarray(
            phases[:, None] * np.tile(light, (self.reading.repeats, 1)), np.complex128
        )
        return QuadratureSeen(
            self,
            scatter=(read.T @ read).astype(np.float64),
            crossed=np.asarray(read.T @ turned, np.complex128),
            powers=self.reading.repeats * (light.T @ light.conj()),
            squares=np.asarray(turned.T @ turned, np.complex128),
        )


@dataclass(frozen=True, eq=False)
class QuadratureSeen:
    """Sums over rows of y y^T (D, D), y w^T (D, e), w w^dagger and w w^T (e, e), phases in w."""

    view: QuadratureView
    scatter: Scores
    crossed: npt.NDArray[np.complexfloating]
    powers: npt.NDArray[np.complexfloating]
    squares: npt.NDArray[np.complexfloating]

    def alone(self) -> Scores:
        """Return log likelihoods (T,); see `SpanSeen`."""
        # A whole gallery in single precision: it is ranked, no more.
        single = replace(
            self,
            crossed=self.crossed.astype(np.complex64),
            powers=self.powers.astype(np.complex64),
            squares=self.squares.astype(np.complex64),
        )
        return _Quadratures(single, self.view.seen, self.view.shown, None).given(_NOBODY)

    def among(self, candidates: Places) -> Among:
        """Return the likelihoods among some pictures; see `SpanSeen`."""
        view, own = self.view, self.view.gallery[candidates]
        return _Quadratures(self, view.seen[candidates], view.shown[candidates], own @ own.conj().T)


_NOBODY = np.zeros(0, np.intp)
# The inverse of a 2 x 2 matrix is its transpose between two of these, over its determinant.
_TURN = np.array([[0.0, 1.0], [-1.0, 0.0]])


@dataclass(frozen=True, eq=False)
class _Quadratures:
    """Candidates: what is seen of them (C, D), shown (C, e), and t_i . t_j^* (C, C)."""

    sums: QuadratureSeen
    seen: Complexes
    shown: Complexes
    overlaps: Complexes | None

    def given(self, others: Places) -> Scores:
        """Return log likelihoods (C,); see `Among` and the top of this file."""
        sums, spike = self.sums, self.sums.view.reading.spike
        seen, shown, apart = self.seen, self.shown, np.ones(len(self.seen), np.bool_)
        size = seen.shape[1]
        inverse, scatter = np.eye(size), sums.scatter
        span = np.zeros((0, size), np.complex128)
        lit = np.zeros((0, shown.shape[1]), np.complex128)
        if len(others):
            assert self.overlaps is not None
            split = _Split.of(self.overlaps, others)
            span, lit = split.orthonormal(seen[others]), split.orthonormal(shown[others])
            seen, shown = split.rest(seen, span), split.rest(shown, lit)
            apart = split.apart
        modes = np.concatenate([span.real, span.imag])
        if len(others):
            core = np.linalg.inv(np.eye(len(modes)) + spike * modes @ modes.T)
            inverse = inverse - spike * modes.T @ core @ modes
            told = self._told(lit)
            back = modes.T @ told
            means = self._means(lit, lit)
            scatter = scatter - back - back.T + modes.T @ means @ modes
        b = np.stack([seen.real, seen.imag], axis=1).astype(np.float32)
        flat = b.reshape(-1, size)
        weighed = (flat @ inverse.astype(np.float32)).reshape(b.shape)
        middle = (inverse @ scatter @ inverse).astype(np.float32)
        p = np.asarray(weighed @ b.swapaxes(1, 2), np.float64)
        k = (flat @ middle).reshape(b.shape) @ b.swapaxes(1, 2)
        h = np.eye(2) + spike * p
        determinant = h[:, 0, 0] * h[:, 1, 1] - h[:, 0, 1] * h[:, 1, 0]
        turned = _TURN.T @ h.swapaxes(1, 2) @ _TURN / determinant[:, None, None]
        scores = 0.5 * spike * _traces(turned, k)
        scores -= 0.5 * sums.view.reading.samples * np.log(determinant)
        if shown.shape[1] > 1:
            scores += self._shown(turned, p, weighed, shown, lit, modes)
        return np.where(apart, scores, -np.inf)

    def _shown(
        self,
        turned: Scores,
        p: Scores,
        weighed: Reals,
        shown: npt.NDArray[np.complexfloating],
        lit: npt.NDArray[np.complex128],
        modes: Scores,
    ) -> Scores:
        """Return what the means add."""
        sums = self.sums
        along = shown.conj() @ sums.crossed.T
        told = np.stack([along.real, -along.imag], axis=1)
        if len(lit):
            cross = self._means(lit, shown).T @ modes
            told = told - cross.reshape(2, len(shown), -1).swapaxes(0, 1)
        x = weighed @ told.swapaxes(1, 2)
        own = np.sum((shown.conj() @ sums.powers) * shown, axis=1)
        twice = np.sum((shown.conj() @ sums.squares) * shown.conj(), axis=1)
        first, second = 0.5 * (own + twice).real, 0.5 * (own - twice).real
        mixed = -0.5 * twice.imag
        means = np.stack([first, mixed, mixed, second], axis=1).reshape(-1, 2, 2)
        return np.asarray(_traces(turned, x) - 0.5 * _traces(turned @ p, means))

    def _told(self, lit: npt.NDArray[np.complex128]) -> Scores:
        """Return sum alpha y^T (2K, D) of modes whose light is `lit` (K, e)."""
        along = lit.conj() @ self.sums.crossed.T
        return np.concatenate([along.real, -along.imag])

    def _means(
        self, one: npt.NDArray[np.complexfloating], two: npt.NDArray[np.complexfloating]
    ) -> Scores:
        """Return sum alpha alpha^T (2K, 2T) of modes of one kind with those of another.

        alpha = (Re a, -Im a), a = e^(-i theta) u^dagger w.
        """
        power = one.conj() @ self.sums.powers @ two.T
        square = one.conj() @ self.sums.squares @ two.conj().T
        upper = np.concatenate([0.5 * (power + square).real, 0.5 * (power - square).imag], axis=1)
        lower = np.concatenate([-0.5 * (power + square).imag, 0.5 * (power - square).real], axis=1)
        return np.concatenate([upper, lower])


@dataclass(frozen=True, eq=False)
class _Split:
    """Candidates split into what lies in the span of some of them and the rest."""

    root: npt.NDArray[np.complex128]
    along: npt.NDArray[np.complexfloating]
    lengths: Reals
    apart: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, overlaps: Complexes, others: Places) -> _Split:
        """Return the split; overlaps t_i . t_j^* (C, C)."""
        gram = overlaps[np.ix_(others, others)].astype(np.complex128)
        factor = np.linalg.cholesky(gram + 1e-9 * np.eye(len(others)))
        root = np.asarray(np.linalg.inv(factor), np.complex128)
        along = overlaps[:, others] @ root.conj().T
        left = 1.0 - np.sum(np.abs(along) ** 2, axis=1)
        apart = left >= _LEAST_APART
        return cls(root, along, np.sqrt(np.where(apart, left, 1.0)).astype(np.float32), apart)

    def orthonormal(self, parts: npt.NDArray[np.complexfloating]) -> npt.NDArray[np.complex128]:
        """Return of the others (J, ...) what belongs to orthonormal modes of their span."""
        return np.asarray(self.root @ parts)

    def rest(
        self, parts: npt.NDArray[np.complexfloating], span: npt.NDArray[np.complex128]
    ) -> Complexes:
        """Return of candidates (C, ...) what is orthogonal to the span, of unit norm."""
        left = (parts - self.along @ span) / self.lengths[:, None]
        return np.asarray(left, np.complex64)


def _traces(one: npt.NDArray[np.floating], two: npt.NDArray[np.floating]) -> Scores:
    """Return tr(a b) of 2 x 2 matrices (T, 2, 2)."""
    return np.asarray(np.sum(one * two.swapaxes(1, 2), axis=(1, 2)), np.float64)


@dataclass(frozen=True, eq=False)
class PhotonView:
    """Photon counting; see the top of this file. `shown` (T, rows): kappa t^dagger w_r."""

    gallery: Complexes
    light: Complexes
    reading: Reading
    together: int
    mean: Reals = field(init=False)
    shown: Complexes = field(init=False)

    def __post_init__(self) -> None:
        kick, shown = self.reading.spike, self.gallery.conj() @ self.light.T
        share = np.mean(np.abs(self.gallery) ** 2, axis=0)
        one = kick + float(np.mean(np.abs(shown) ** 2))
        # A mode that is dark in all pictures is dark in an image like them, but not for sure.
        spread = 0.99 * share + 0.01 * float(np.mean(share))
        object.__setattr__(self, "shown", np.asarray(shown, np.complex64))
        object.__setattr__(self, "mean", np.asarray(one * spread, np.float32))

    @cached_property
    def kicked(self) -> Reals:
        """Logarithms (T, n) of each picture's rates where the clone is matched: no row differs."""
        found = self.reading.spike * (self.gallery.real**2 + self.gallery.imag**2)
        besides = (MEAN_SHARE + self.together - 1) * self.mean
        return np.asarray(np.log((1.0 - MEAN_SHARE) * found + besides), np.float32)

    def observe(self, generator: np.random.Generator, modes: Complexes) -> PhotonSeen:
        """Draw the photons of one image; see `SpanView`."""
        repeats, kick = self.reading.repeats, self.reading.spike
        means = np.tile(self.light @ modes.conj().T, (repeats, 1))
        halves = generator.standard_normal((*means.shape, 2), np.float32)
        halves *= np.float32(math.sqrt(0.5 * kick))
        amplitudes = means + halves.view(np.complex64)[..., 0]
        # Modes are orthonormal: a row's photons are those of its amplitudes, spread as its field.
        by_row = np.cumsum(np.sum(np.abs(amplitudes) ** 2, axis=1, dtype=np.float64))
        count = int(generator.poisson(by_row[-1]))
        rows = np.searchsorted(by_row, generator.random(count) * by_row[-1])
        spread = np.cumsum(np.abs(amplitudes[rows] @ modes) ** 2, axis=1, dtype=np.float64)
        chosen = generator.random((count, 1)) * spread[:, -1:]
        columns = np.sum(spread < chosen, axis=1)
        return PhotonSeen(self, rows % self.reading.rows, columns)


@dataclass(frozen=True, eq=False)
class PhotonSeen:
    """Rows and modes of the photons (N,)."""

    view: PhotonView
    rows: Places
    columns: Places

    def alone(self) -> Scores:
        """Return log likelihoods (T,); all other directions are as pictures are on average."""
        view = self.view
        if not view.light.any():
            counts = np.bincount(self.columns, minlength=len(view.mean)).astype(np.float32)
            return np.asarray(view.kicked @ counts, np.float64)
        others = (view.together - 1) * view.mean[self.columns]
        found = _Photons(self, view.gallery[:, self.columns], view.shown, None)
        return found.given(_NOBODY, others)

    def among(self, candidates: Places) -> Among:
        """Return the likelihoods among some pictures; see `SpanSeen`."""
        view, own = self.view, self.view.gallery[candidates]
        seen, counts = self, None
        if not view.light.any():
            # No row differs: photons of one mode count together.
            columns, counts = np.unique(self.columns, return_counts=True)
            seen = PhotonSeen(view, np.zeros_like(columns), columns)
        overlaps = own @ own.conj().T
        return _Photons(seen, own[:, seen.columns], view.shown[candidates], overlaps, counts)


@dataclass(frozen=True, eq=False)
class _Photons:
    """Candidates at the photons' modes (C, N), what they show of all rows (C, rows).

    `counts` (N,): photons that are alike, None where each is one by itself.
    """

    counted: PhotonSeen
    at_modes: Complexes
    shown: Complexes
    overlaps: Complexes | None
    counts: Places | None = None

    def given(self, others: Places, besides: Reals | None = None) -> Scores:
        """Return log likelihoods (C,); see `Among`. `besides`: rates of what is not modelled."""
        view, rows, lit = self.counted.view, self.counted.rows, self.shown
        at_modes, apart = self.at_modes, np.ones(len(self.at_modes), np.bool_)
        kick, mismatched = view.reading.spike, bool(view.light.any())
        field_ = np.zeros(len(rows), np.complex64)
        rates = (len(others) + 1) * MEAN_SHARE * view.mean[self.counted.columns]
        if besides is not None:
            rates = rates + besides
        power = np.zeros(len(rows), np.float32)
        if len(others):
            assert self.overlaps is not None
            split = _Split.of(self.overlaps, others)
            span = split.orthonormal(at_modes[others])
            # kappa u^dagger w is antilinear in u.
            shown = split.orthonormal(lit[others].conj())
            at_modes = split.rest(at_modes, span)
            if mismatched:
                lit = split.rest(lit.conj(), shown).conj()
                field_ = np.sum(span * shown.conj()[:, rows], axis=0).astype(np.complex64)
            power = np.sum(np.abs(span) ** 2, axis=0).astype(np.float32)
            apart = split.apart
        found = kick * (power + at_modes.real**2 + at_modes.imag**2)
        total = np.zeros(len(at_modes))
        if mismatched:
            amplitude = field_ + at_modes * lit[:, rows]
            found = found + amplitude.real**2 + amplitude.imag**2
            total = view.reading.repeats * np.sum(np.abs(lit) ** 2, axis=1)
        told = np.log((1.0 - MEAN_SHARE) * found + rates)
        scores = (told.sum(axis=1) if self.counts is None else told @ self.counts) - total
        return np.where(apart, scores.astype(np.float64), -np.inf)
