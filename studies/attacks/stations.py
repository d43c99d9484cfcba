"""What somebody on the path can do to passing light: tap it, or read modes and fill in others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from labctl.protocols.link import LayerLight
from labctl.studies.attacks.tampered_link import Beam, Replaced
from labctl.studies.attacks.weights_estimate import Complex, Mask, Notebook

# Vacuum of the light and of the second port of the receiver, in SNU at the input.
HETERODYNE_NOISE = 2.0
# Branch of the session's seed for the choice of modes.
_FIXED_KEY = 8


class Splitter:
    """Takes a share of the light out and reads X and P of it (heterodyne, 2 SNU each).

    `kept`: the transmittance for what goes on, by the modes of a row.
    """

    def __init__(self, kept: Callable[[int], float], notebook: Notebook) -> None:
        self._kept = kept
        self._notebook = notebook

    def meet(self, beam: Beam) -> None:
        """Tap the light and note what is read."""
        kept, before = self._kept(beam.light.modes), beam.transmittance
        if kept >= 1.0:
            return
        arm = beam.split(kept)
        arm += beam.vacuum(*arm.shape)
        amplitude = math.sqrt(before * (1.0 - kept))
        page = self._notebook.layer(beam.light)
        page.look_at_modes(arm, None, amplitude, HETERODYNE_NOISE)


class Choice(Protocol):
    """Which modes of each row are read and replaced."""

    def modes(self, beam: Beam) -> Mask:
        """Return those of this query, (rows, n)."""
        ...


class DrawnModes:
    """A share of the modes, drawn again for each row and query: no row and no mode stands out."""

    def __init__(self, share: float) -> None:
        self._share = share

    def modes(self, beam: Beam) -> Mask:
        """Draw the modes of this query."""
        return _drawn(beam.light, self._share, beam.generator)


class FixedModes:
    """A share of the modes, drawn for each row, the same in every query."""

    def __init__(self, share: float, seed: int) -> None:
        self._share = share
        self._seed = seed

    def modes(self, beam: Beam) -> Mask:
        """Return the modes."""
        return self.of(beam.light)

    def of(self, light: LayerLight) -> Mask:
        """Return those of a layer."""
        seed = np.random.SeedSequence(self._seed, spawn_key=(_FIXED_KEY, light.layer))
        return _drawn(light, self._share, np.random.Generator(np.random.SFC64(seed)))


def _drawn(light: LayerLight, share: float, generator: np.random.Generator) -> Mask:
    drawn = generator.random((light.rows, light.modes), dtype=np.float32)
    # No float32 below 1 reaches a share of 1, none is below 0.
    return np.asarray(drawn < np.float32(share))


class Refill(Protocol):
    """What light is sent on instead of the light that was read."""

    def mean(self, light: LayerLight, outcomes: Complex, transmittance: float) -> Complex:
        """Return its mean X + iP, given what heterodyne read of light dimmed by `transmittance`."""
        ...


class Resent:
    """Coherent light of the amplitude that was read, times `rescaling`."""

    def __init__(self, rescaling: float) -> None:
        self._rescaling = np.float32(rescaling)

    def mean(self, light: LayerLight, outcomes: Complex, transmittance: float) -> Complex:
        """Return the rescaled outcomes."""
        return outcomes * self._rescaling


class Nothing:
    """No light at all."""

    def mean(self, light: LayerLight, outcomes: Complex, transmittance: float) -> Complex:
        """Return zeros."""
        return np.zeros_like(outcomes)


class BestGuess:
    """Coherent light of the most likely amplitude, given all queries so far.

    The same modes must be read in every query. With S = mu T for light dimmed by T, q queries
    give the mean of their outcomes the weight q S/(1 + q S).
    """

    def __init__(self, mean_photons: float) -> None:
        self._mean_photons = mean_photons
        self._sums: dict[int, Complex] = {}
        self._queries: dict[int, int] = {}

    def mean(self, light: LayerLight, outcomes: Complex, transmittance: float) -> Complex:
        """Take this query in and return the guess."""
        total = self._sums.get(light.layer, np.complex64(0.0)) + outcomes
        queries = self._queries.get(light.layer, 0) + 1
        self._sums[light.layer], self._queries[light.layer] = total, queries
        strength = self._mean_photons * transmittance
        return np.asarray(total * np.float32(strength / (1.0 + queries * strength)), np.complex64)


class Replacement:
    """Reads some modes by heterodyne and lets other light go on in their place.

    `own`: whether it is the client itself, who then knows what its receiver will see of it.
    """

    def __init__(self, choice: Choice, refill: Refill, notebook: Notebook, *, own: bool) -> None:
        self._choice = choice
        self._refill = refill
        self._notebook = notebook
        self._own = own

    def meet(self, beam: Beam) -> None:
        """Read, note and replace."""
        chosen = self._choice.modes(beam)
        if not chosen.any():
            return
        shape = chosen.shape
        outcomes = beam.field + beam.vacuum(*shape)
        refill = self._refill.mean(beam.light, outcomes, beam.transmittance)
        np.copyto(beam.field, refill + beam.vacuum(*shape), where=chosen)
        page = self._notebook.layer(beam.light)
        page.look_at_modes(outcomes, chosen, math.sqrt(beam.transmittance), HETERODYNE_NOISE)
        if self._own:
            beam.replaced = Replaced(chosen, outcomes, refill)
