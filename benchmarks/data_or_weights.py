"""What protecting the data costs in weights: decoys, and a return that does not depend on the data.

    python benchmarks/data_or_weights.py docs/data-or-weights.png

Prints two tables and writes the figure; one minute. Network noise-aware, mu = 8.91, G = 1.0128
(F = 0.23), no loss, no technical noise, loss and noise untrusted. A public subspace is that of the
complex principal components of every other shipped picture; accuracy is of the others. The cap of
J decoys is that of `labctl label-attack --decoys J --images 300`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labctl.cli.label_decoys import hidden_among
from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import load_network
from labctl.drawing import new_figure, write_png
from labctl.protocols.client import Client
from labctl.protocols.disguise import PLAIN
from labctl.protocols.encoding import Floats, quadratures
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.hiding.public_return import PublicReturn, projected
from labctl.protocols.leakage import (
    Assumptions,
    Trust,
    holevo_bits_per_mode,
    prior_free_bits_per_mode,
)
from labctl.protocols.link import LayerLight
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings

MEAN_PHOTONS, GAIN = 8.91, 1.0128
MODES, ROWS, LAST_ROWS = 392, 784, 10
FIRST = (5, 10, 20, 30, 50, 100, 200, 392)
DRAWN = (5, 10, 20, 50, 100, 392)
HIDDEN = (20, 50, 100, 200, 392)
DECOYS = (0, 1, 3, 9)
ATTACKED = 300
SETTINGS = SessionSettings(
    light=Light(MEAN_PHOTONS, PLAIN),
    channel=Channel(),
    receiver=CloneReceiver(GAIN, 1.0, IDEAL_HOMODYNE),
    verifier=IDEAL_HOMODYNE,
    assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
    sampling=Sampling.MEASURED,
    seed=0,
)


@dataclass(frozen=True)
class Bits:
    """Bits per real weight and query: of an honest client, and for any Gaussian prior."""

    honest: float
    prior_free: float

    @classmethod
    def of(cls, clones: int) -> Bits:
        """Return those of a layer of rows of 392 modes of which `clones` are cloned."""
        noise = clones * SETTINGS.receiver.returned_noise / MODES
        return cls(
            holevo_bits_per_mode(MEAN_PHOTONS, 1.0, noise) / 2.0,
            prior_free_bits_per_mode(MEAN_PHOTONS, 1.0, noise) / 2.0,
        )


def accuracy(images: LabelledImages, pictures: Floats, first: int, hidden: int) -> float:
    """Return the accuracy with public subspaces of these modes in the two layers.

    A value of the subspace has the law of the projected input's own mode, so that this is measured.
    """
    network = load_network("noise-aware")
    public = PublicReturn(pictures, network.sizes, None, Hiding(0, first, hidden))
    lights = [
        LayerLight(index, quadratures(weights, MEAN_PHOTONS))
        for index, weights in enumerate(network.layers)
    ]
    link, values = ModeLink(SETTINGS), images.images
    for layer, light in enumerate(lights):
        seen = projected(np.maximum(values, 0.0), public.basis(layer)[0])
        client = Client((seen.shape[1], light.rows, 2), seen)
        values = client.receive(link.exchange(light, client.coefficients()).measured)
    return float(np.mean(np.argmax(values, axis=1) == images.labels))


def cap(images: LabelledImages, decoys: int) -> float:
    """Return the most labels that any reader names of sessions with `decoys` decoys."""
    return hidden_among(images, ATTACKED, decoys, seed=0).decoys.cap if decoys else 1.0


def draw(path: Path, caps: list[float], returns: list[tuple[int, float]]) -> None:
    """Write the figure: labels that any reader may name against bits per weight."""
    figure = new_figure(8.0, 5.2)
    from matplotlib.ticker import PercentFormatter

    axes = figure.subplots()
    for name, style in (("honest", "--"), ("prior_free", "-")):
        colour = "tab:blue" if name == "honest" else "tab:red"
        words = "honest client" if name == "honest" else "at most (prior-free)"
        bits = [getattr(Bits.of(decoys + 1), name) for decoys in DECOYS]
        axes.plot(bits, caps, f"o{style}", color=colour, label=f"decoys, weights: {words}")
        bits = [getattr(Bits.of(modes), name) for modes, _ in returns]
        axes.plot(bits, [0.1] * len(bits), f"s{style}", color=colour, markerfacecolor="white",
                  label=f"public subspace, weights: {words}")  # fmt: skip
    for decoys, most in zip(DECOYS, caps, strict=True):
        axes.annotate(
            f"J = {decoys}: {most:.0%}", (Bits.of(decoys + 1).prior_free, most), xytext=(6, 5),
            textcoords="offset points", fontsize=9,
        )  # fmt: skip
    for modes, right in returns:
        axes.annotate(
            f"d = {modes}: {right:.1%} right", (Bits.of(modes).prior_free, 0.08), rotation=90,
            ha="center", va="top", fontsize=7,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yticks(np.arange(0.0, 1.01, 0.2))
    axes.set_ylim(-0.28, 1.1)
    axes.set_xlabel("leakage of weights to the client, bit per real weight and query (layer 1)")
    axes.set_ylabel("labels that any reader of the returned light may name")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    figure.supxlabel(
        "noise-aware network, μ = 8.91, G = 1.0128, no loss, loss and noise untrusted; ten classes "
        "equally frequent;\ndecoys from a store that the server does not hold; cap of J decoys: "
        "1/(J + 1) + J e/9, e the error of the client's public guess of a class;\nwith a public "
        "subspace what returns does not depend on the input (chance: 10 %)",
        fontsize=7,
        color="dimgray",
    )
    write_png(path, figure)


def main() -> None:
    """Print the tables; write the figure if a path is given."""
    found = load_test_images()
    pictures = found.images[1::2]
    images = LabelledImages(found.images[0::2], found.labels[0::2])
    caps = [cap(found, decoys) for decoys in DECOYS]
    print("decoys  most labels  honest  prior-free (bit per real weight, first layer)")
    for decoys, most in zip(DECOYS, caps, strict=True):
        bits = Bits.of(decoys + 1)
        print(f"{decoys:6d}  {most:10.1%}  {bits.honest:.4f}  {bits.prior_free:.4f}")
    print("d (layer 1)  accuracy  honest  prior-free")
    returns = []
    for modes in FIRST:
        right, bits = accuracy(images, pictures, modes, MODES), Bits.of(modes)
        returns.append((modes, right))
        print(f"{modes:11d}  {right:8.2%}  {bits.honest:.4f}  {bits.prior_free:.4f}", flush=True)
    print("d (layer 2, d = 50 in layer 1)  accuracy  honest  prior-free (of layer 2)")
    for modes in HIDDEN:
        right, bits = accuracy(images, pictures, 50, modes), Bits.of(modes)
        print(f"{modes:30d}  {right:8.2%}  {bits.honest:.4f}  {bits.prior_free:.4f}", flush=True)
    if len(sys.argv) > 1:
        draw(Path(sys.argv[1]), caps, [each for each in returns if each[0] in DRAWN])


if __name__ == "__main__":
    main()
