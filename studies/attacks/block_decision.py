"""A client that reads blocks of weights that are words of a codebook, decides, resends the word.

Vector quantisation makes every block of a row one of some thousand words. A single weight then
takes many values and no level shows, but heterodyne reads a whole block with noise of variance
1/(mu T) per weight, and words lie further apart than weights do. Where the nearest word is the
right one the client knows the block, and sends on exactly the light that came.

The words are known to the client before, not which of them stands where: codebooks are part of
published formats (as the lattice E8 is), or were collected from a network of the same maker. Rows
are decided one by one, as they come. From query to query readings of the same weight are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.carried import carried
from labctl.protocols.codewords import Codebook, along_rows, codebook_of
from labctl.protocols.encoding import Floats, unit_rms
from labctl.protocols.repeated_blocks import FAINT
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Learned, Mark
from labctl.studies.attacks.marks import Change, LayerPath, pooled_mark
from labctl.studies.attacks.mounted import BesideHonestServer
from labctl.studies.attacks.own_laser import of_these_modes
from labctl.studies.attacks.share import OfAShare
from labctl.studies.attacks.tampered_link import Beam, Path, TamperedLink
from labctl.studies.attacks.weights_estimate import Complex, Mask, network_size, pearson

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
# Branch of the session's seed for the choice of rows.
_ROWS_KEY = 9


_NO_WORDS = (
    "no codebook is known of this network, so there is nothing to decide: the client let all light "
    "pass as an honest one"
)


@dataclass(frozen=True, eq=False)
class Format:
    """What a client knows of a layer before: the words, where blocks lie, which inputs are sent.

    `columns`: of the layer's `width` inputs those that are sent, in order. The others are zero.
    """

    book: Codebook
    columns: Indices
    width: int

    def whole(self, sent: Floats) -> Floats:
        """Return (rows, inputs sent or more) as whole blocks (rows x blocks, length)."""
        full = np.zeros((len(sent), self.width), np.float32)
        full[:, self.columns] = sent[:, : len(self.columns)]
        return full[:, : self.blocks * self.book.length].reshape(-1, self.book.length)

    @property
    def blocks(self) -> int:
        """Whole blocks in a row."""
        return self.width // self.book.length

    @property
    def inside(self) -> Mask:
        """Which of the inputs sent lie in whole blocks."""
        return np.asarray(self.columns < self.blocks * self.book.length)


Formats = tuple[Format | None, ...]


@dataclass(frozen=True)
class BlockDecision(OfAShare):
    """Decides a share of the rows, drawn once for the session, and is honest behind that.

    Layers whose blocks along rows are no words pass as they are.
    """

    name: ClassVar[str] = "block-decision"

    def mount(self, network: Network, settings: SessionSettings) -> BlockClient:
        """Return the client with a heterodyne receiver and a laser before its rotation."""
        reader = BlockReader(settings, self.share, _formats(network, self.share))
        path = replace(Path.honest(settings), entering=(reader,))
        return BlockClient(TamperedLink(settings, path), reader)

    def mark(self, network: Network, settings: SessionSettings) -> Mark | None:
        """Return the mark of one query; see `mark_after`."""
        return self.mark_after(1, network, settings)

    def mark_after(self, queries: int, network: Network, settings: SessionSettings) -> Mark | None:
        """Return what wrong decisions leave; None where no layer is made of words.

        In query q what is resent is the mean word given q readings. It is off by the least mean
        square e: its regression on the weight is 1 - e, the rest e (1 - e). By Monte Carlo of 1,000
        words for each query, whole blocks only.
        """
        if self.share == 0.0:
            return Mark()
        formats = _formats(network, self.share)
        if not any(formats):
            return None

        def change(path: LayerPath) -> Change:
            known = formats[path.index]
            if known is None:
                return Change()
            signal = settings.light.mean_photons * path.leg
            off = [known.book.decided(signal * query)[1] for query in range(1, queries + 1)]
            rest = math.fsum(each * (1.0 - each) for each in off) / queries
            chosen = _rows(self.share, settings.seed, path.index, path.rows)
            return of_these_modes(
                self.share,
                [1.0 - each for each in off],
                path,
                path.leg**2 * path.sent_variance * rest,
                np.repeat(chosen[:, None], path.modes, axis=1),
            )

        return pooled_mark(network, settings, change)


def _formats(network: Network, share: float) -> Formats:
    """Return what the client knows of each layer that is sent, None of one without words."""
    sent = carried(network)
    if share == 0.0:
        return (None,) * len(sent.network.layers)
    first = sent.inputs.fed
    columns = [np.arange(sent.inputs.width) if first is None else first]
    columns += [np.flatnonzero(rows) for rows in sent.rows]
    widths = [layer.shape[1] for layer in network.layers]
    found: list[Format | None] = []
    for weights, lit, width in zip(sent.network.layers, columns[:-1], widths, strict=True):
        full = np.zeros((len(weights), width), np.float32)
        full[:, lit] = unit_rms(weights)
        book = along_rows(codebook_of(full))
        found.append(None if book is None else _with_zero(Format(book, lit, width), full))
    return tuple(found)


def _with_zero(known: Format, full: Floats) -> Format:
    """Return the format with the word of zeros, which no codebook counts, as often as it comes."""
    blocks = known.whole(full[:, known.columns])
    share = float(np.mean(np.abs(blocks).max(axis=1) < FAINT))
    if share == 0.0:
        return known
    book = known.book
    words = np.concatenate([book.words, np.zeros((1, book.length))])
    shares = np.concatenate([(1.0 - share) * book.shares, [share]])
    return replace(known, book=replace(book, words=words, shares=shares))


def _rows(share: float, seed: int, layer: int, rows: int) -> Mask:
    """Return which rows of a layer are read."""
    drawn = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_ROWS_KEY, layer)))
    return np.asarray(drawn.random(rows) < share)


class _Page:
    """Sums of all readings of a layer's weights (rows, 2n) in units of their RMS."""

    def __init__(self, shape: tuple[int, int], chosen: Mask, known: Format) -> None:
        self.total = np.zeros(shape, np.float32)
        self.chosen = chosen
        self.known = known
        self.readings = 0
        self.signal = 0.0
        self._decided: tuple[Indices, Floats] | None = None

    def add(self, readings: Floats, signal: float) -> None:
        """Add one reading of all weights, noise of variance 1/signal each."""
        self.total += readings
        self.readings += 1
        self.signal += signal
        self._decided = None

    def decided(self) -> tuple[Indices, Floats]:
        """Return each whole block's likeliest word (rows, blocks), and what is resent (rows, 2n).

        Behind the last whole block a weight is resent as a Gaussian one is, shrunk.
        """
        if self._decided is None:
            self._decided = self._decide()
        return self._decided

    def _decide(self) -> tuple[Indices, Floats]:
        known, signal = self.known, self.signal
        mean = self.total[self.chosen] / np.float32(max(self.readings, 1))
        likeliest, words = known.book.guessed(known.whole(mean), signal)
        sent = mean * np.float32(signal / (1.0 + signal))
        sent[:, len(known.columns) :] = 0.0
        at = known.columns[known.inside]
        sent[:, : len(at)] = words.reshape(len(mean), -1)[:, at]
        numbers = np.full((len(self.total), known.blocks), -1, np.intp)
        numbers[self.chosen] = likeliest.reshape(len(mean), known.blocks)
        values = np.zeros(self.total.shape, np.float32)
        values[self.chosen] = sent
        return numbers, values


class BlockReader:
    """Reads, decides and resends at the client's input."""

    def __init__(self, settings: SessionSettings, share: float, formats: Formats) -> None:
        self._settings = settings
        self._share = share
        self.formats = formats
        self._pages: dict[int, _Page] = {}

    def meet(self, beam: Beam) -> None:
        """Read all modes of the chosen rows and put what was decided in their place."""
        light, known = beam.light, self.formats[beam.light.layer]
        if known is None:
            return
        shape = (light.rows, light.modes)
        if light.layer not in self._pages:
            chosen = _rows(self._share, self._settings.seed, light.layer, light.rows)
            self._pages[light.layer] = _Page((light.rows, 2 * light.modes), chosen, known)
        page = self._pages[light.layer]
        # The amplitude of a weight of 1 is public, as the brightness is.
        signal = self._settings.light.mean_photons * beam.transmittance
        scale = np.float32(math.sqrt(2.0 * signal))
        page.add((beam.field + beam.vacuum(*shape)).view(np.float32) / scale, signal)
        sent: Complex = (page.decided()[1] * scale).view(np.complex64)
        np.copyto(beam.field, sent + beam.vacuum(*shape), where=page.chosen[:, None])

    def decided(self, layer: int) -> tuple[Indices, Floats] | None:
        """Return a layer's words by number, -1 where not read, and its weights; None if not met."""
        page = self._pages.get(layer)
        return None if page is None else page.decided()


@dataclass(frozen=True, eq=False)
class BlockClient(BesideHonestServer):
    """The mounted attack."""

    link: TamperedLink
    reader: BlockReader

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score the decisions: how many weights lie in words taken for others, and bits learned.

        At least, by Fano's inequality: the words' entropy less h2(p) + p log2(words - 1), at a
        share p of blocks mistaken. Counting pairs of words would count chance as well.
        """
        layers = carried(network).network.layers
        truth = [unit_rms(weights) for weights in layers]
        said = self.stolen(network)
        wrong, bits, size = 0.0, 0.0, float(network_size(network))
        for index, true in enumerate(truth):
            decided, known = self.reader.decided(index), self.reader.formats[index]
            if decided is None or known is None:
                wrong += true.size
                continue
            numbers = _numbers(known, true)
            missed = float(np.mean(decided[0] != numbers))
            inside = len(true) * float(np.count_nonzero(known.inside))
            wrong += missed * inside + true.size - inside
            bits += numbers.size * _told(known.book, missed)
        return Learned(
            network_size(network),
            pearson(_row(truth), [_row(said)]),
            weights_wrong=wrong / size,
            remark=None if any(self.reader.formats) else _NO_WORDS,
            weights_bits_discrete=bits / size if any(self.reader.formats) else None,
        )

    def stolen(self, network: Network) -> tuple[Floats, ...]:
        """Return the weights as decided, 0 where not read."""
        found = []
        for index, weights in enumerate(carried(network).network.layers):
            decided = self.reader.decided(index)
            blank = np.zeros(weights.shape, np.float32)
            found.append(blank if decided is None else decided[1][:, : weights.shape[1]])
        return tuple(found)


def _row(layers: Sequence[Floats]) -> Doubles:
    return np.concatenate([each.ravel() for each in layers]).astype(np.float64)


def _numbers(known: Format, weights: Floats) -> Indices:
    """Return which word each whole block (rows, blocks) of the true weights is: the nearest."""
    blocks, words = known.whole(weights), known.book.words.astype(np.float32)
    squares = 0.5 * np.square(words).sum(axis=1)
    parts = np.array_split(blocks, max(len(blocks) // 4096, 1))
    nearest = [np.argmax(part @ words.T - squares, axis=1) for part in parts]
    return np.concatenate(nearest).reshape(len(weights), known.blocks)


def _told(book: Codebook, missed: float) -> float:
    """Return bits per word that decisions tell at least."""
    unsure = missed * math.log2(max(len(book.words) - 1, 1))
    for share in (missed, 1.0 - missed):
        if share > 0.0:
            unsure -= share * math.log2(share)
    return max(book.entropy_bits * book.length - unsure, 0.0)
