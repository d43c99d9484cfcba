"""How much leaks: weights to the client, data to the server, and under which assumptions.

Entropies in bits, variances in shot-noise units (vacuum = 1). `mean_photons` is the mean photon
number per mode, `gain` the client's amplifier gain G, `modes` the modes n that carry one row,
`rows` the rows M that carry the same normalised input, `block_modes` the modes b that the client's
receiver collects at a time (None: a whole row).
"""

from labctl.protocols.leakage.assumptions import MEAN_OVER_SESSION, Assumptions, Trust
from labctl.protocols.leakage.data import data_bits_first, data_bits_journal, data_bits_quantum
from labctl.protocols.leakage.holevo import holevo_bits_per_mode, thermal_entropy_bits
from labctl.protocols.leakage.network import Spectrum, network_bits_per_mode, spectrum_of
from labctl.protocols.leakage.prior_free import prior_free_bits_per_mode
from labctl.protocols.leakage.setting import LEAKAGE_FIGURES, Leakage, WeightsFigure, leakage_of
from labctl.protocols.leakage.shape import LayerShape
from labctl.protocols.leakage.weights import (
    WEIGHTS_PER_MODE,
    Figure,
    weights_bits_per_mode,
    weights_bits_shown,
)

__all__ = [
    "LEAKAGE_FIGURES",
    "MEAN_OVER_SESSION",
    "WEIGHTS_PER_MODE",
    "Assumptions",
    "Figure",
    "LayerShape",
    "Leakage",
    "Spectrum",
    "Trust",
    "WeightsFigure",
    "data_bits_first",
    "data_bits_journal",
    "data_bits_quantum",
    "holevo_bits_per_mode",
    "leakage_of",
    "network_bits_per_mode",
    "prior_free_bits_per_mode",
    "spectrum_of",
    "thermal_entropy_bits",
    "weights_bits_per_mode",
    "weights_bits_shown",
]
