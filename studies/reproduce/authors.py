"""What the authors published: their numbers, and their formulas the way they evaluate them.

Sulimany, Vadlamani, Hamerly, Iyengar, Englund, arXiv:2408.05629; Phys. Rev. X 15, 041056 (2025).
"Scripts" are their analysis scripts, github.com/kfirsuli/Quantum-secure-multiparty-deep-learning:
Fitting_sigmoid.m and the notebook (accuracy against F), Maps.m (accuracy over leakage),
neurons_and_loss.m (layer width, loss and, in the journal's, technical noise), Leak.m and CCRB1.m
(the bounds). The "first" scripts are those of the first version (commit c9920f1), the "journal's"
the later ones (commit b898d8a): they halve the bound, which is per mode, and have technical noise.
Facts are taken from them, no line of theirs is here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.errors import SettingError
from labctl.protocols.leakage import WEIGHTS_PER_MODE, holevo_bits_per_mode
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver, added_noise
from labctl.units import db_to_ratio

Reals = npt.NDArray[np.float64]

# The authors' layer, and the settings of their figure of loss.
INPUTS, MODES, ROWS = 784, 392, 784
LOSS_INPUTS, LOSS_GAIN, LOSS_PHOTONS = 748, 1.2, 2.0
JOURNAL_ROWS = 794
# The journal's width, loss and noise figures: light of mu = 6/eta, times 1 + the noise; 784 rows
# held at any width, over N neurons instead of N/2 modes.
JOURNAL_GAIN, JOURNAL_PHOTONS = 1.3, 6.0
JOURNAL_NOISES_SNU, JOURNAL_LOSSES_DB, REALISTIC_NOISE_SNU = (0.0, 0.2), (0.0, 3.0), 0.02


@dataclass(frozen=True)
class Setting:
    """Mean photon number per mode, and gain of the client's amplifier."""

    mean_photons: float
    gain: float

    @property
    def signal_to_noise(self) -> float:
        """F = 2 mu / D(G) without loss."""
        return signal_to_noise(self.mean_photons, self.gain)

    @property
    def label(self) -> str:
        """The setting in words."""
        return f"μ = {self.mean_photons:.3g}, G = {self.gain:g}"


BRIGHT, DIM = Setting(4.0, 2.0), Setting(6.0, 1.3)
SETTINGS = (BRIGHT, DIM)


@dataclass(frozen=True)
class Claim:
    """An accuracy (0 to 1) with bits per weight symbol and per data symbol."""

    accuracy: float
    weights_bits: float
    data_bits: float


ABSTRACT = Claim(0.96, 0.1, 0.01)
JOURNAL = Claim(0.95, 0.1, 0.1)

# Their 512 simulated accuracies, equally spaced in log F from 1e-3 to 1e2 (Fitting_sigmoid.m), as
# means over a tenth of a decade each: about ten values, six in the first and the last.
PUBLISHED_LOG_F = tuple(round(-3.0 + 0.1 * index, 1) for index in range(51))
PUBLISHED_PERCENT = (
    *(10.29, 10.16, 10.17, 10.36, 10.29, 10.59, 10.64, 10.64, 11.0, 11.09, 11.58, 12.0, 12.5),
    *(13.16, 14.0, 15.28, 16.64, 18.7, 21.38, 25.02, 28.97, 34.08, 40.39, 47.65, 55.48, 63.02),
    *(70.37, 77.18, 82.95, 87.08, 90.42, 92.54, 94.06, 95.33, 96.08, 96.61, 97.03, 97.27, 97.5),
    *(97.62, 97.72, 97.73, 97.88, 97.89, 97.94, 97.98, 97.99, 97.99, 98.04, 98.04, 98.06),
)


def signal_to_noise(mean_photons: float, gain: float) -> float:
    """Return F = 2 mu / D(G) of an ideal receiver without loss."""
    return CloneReceiver(gain, 1.0, IDEAL_HOMODYNE).signal_to_noise(mean_photons, 1.0)


def photons_for(f: float, gain: float) -> float:
    """Return the photons per mode that give F at a gain, without loss."""
    return f / signal_to_noise(1.0, gain)


def published_accuracy(f: float) -> float:
    """Return their simulated accuracy (0 to 1) at F, between their values by a straight line."""
    return float(np.interp(math.log10(f), PUBLISHED_LOG_F, PUBLISHED_PERCENT)) / 100.0


def published_f(accuracy: float) -> float:
    """Return the F at which their simulated accuracy gets to a value between 11 % and 98 %."""
    rising = np.maximum.accumulate(PUBLISHED_PERCENT)
    checks.within("accuracy", accuracy, 0.11, 0.98, note=", which their simulation reaches")
    return float(10.0 ** np.interp(100.0 * accuracy, rising, PUBLISHED_LOG_F))


@dataclass(frozen=True)
class Logistic:
    """height/(1 + exp(-slope (x - centre))) + floor, in percent: the form of their fit."""

    height: float
    slope: float
    centre: float
    floor: float

    def accuracy(self, x: float) -> float:
        """Return the accuracy (0 to 1) at x."""
        drop = math.exp(-self.slope * (x - self.centre))
        return (self.height / (1.0 + drop) + self.floor) / 100.0

    def inverse(self, accuracy: float) -> float:
        """Return the x of an accuracy; raises SettingError beyond the highest of the fit."""
        share = (100.0 * accuracy - self.floor) / self.height
        if not 0.0 < share < 1.0:
            raise SettingError("accuracy", accuracy, "within the range of the logistic fit")
        return self.centre - math.log(1.0 / share - 1.0) / self.slope


@cache
def fitted_logistic() -> Logistic:
    """Return the least-squares fit of their form to their accuracies, over x = F as they do.

    They publish no parameters. The first and the last mean count as half as many values.
    """
    from scipy.optimize import curve_fit

    def form(x: Reals, height: float, slope: float, centre: float, floor: float) -> Reals:
        values: Reals = height / (1.0 + np.exp(-slope * (x - centre))) + floor
        return values

    spread = np.ones(len(PUBLISHED_LOG_F))
    spread[[0, -1]] = math.sqrt(2.0)
    start = (PUBLISHED_PERCENT[-1] - PUBLISHED_PERCENT[0], 1.0, 0.0, PUBLISHED_PERCENT[0])
    x = 10.0 ** np.array(PUBLISHED_LOG_F)
    found, _ = curve_fit(form, x, PUBLISHED_PERCENT, p0=start, sigma=spread, maxfev=100_000)
    return Logistic(*(float(value) for value in found))


def map_accuracy(setting: Setting) -> float:
    """Return the accuracy in their maps: the logistic, fitted over F, at sqrt(mu/D) (Maps.m)."""
    return fitted_logistic().accuracy(math.sqrt(setting.signal_to_noise / 2.0))


def map_photons(accuracy: float, gain: float) -> float:
    """Return the photons per mode at which their maps show an accuracy at a gain."""
    return photons_for(2.0 * fitted_logistic().inverse(accuracy) ** 2, gain)


def weights_bits_with_loss(loss_db: float) -> float:
    """Return bits per real weight as the first scripts' neurons_and_loss.m computes them.

    The bound is given sqrt(eta) for the channel's transmittance eta; light of mu = 2/eta makes up
    for the loss; G = 1.2, and n = 748/2 modes. Their figure shows twice this, bits per mode.
    """
    eta = db_to_ratio(-loss_db)
    noise = added_noise(LOSS_GAIN) / (LOSS_INPUTS // 2)
    bits = holevo_bits_per_mode(LOSS_PHOTONS / eta, math.sqrt(eta), noise)
    return bits / WEIGHTS_PER_MODE


def journal_weights_bits(
    loss_db: float, technical_noise: float = 0.0, inputs: int = LOSS_INPUTS, *, power: float = 0.5
) -> float:
    """Return bits per real weight as the journal's neurons_and_loss.m computes them.

    The bound is given eta^power for the channel's transmittance eta, power being 1/2 in the script;
    light of mu = 6 (1 + noise)/eta, G = 1.3, n = 748/2 modes. All technical noise, in SNU, counts
    as the client's. The script halves the bound: a mode carries two weights.
    """
    eta = db_to_ratio(-loss_db)
    photons = JOURNAL_PHOTONS * (1.0 + technical_noise) / eta
    noise = added_noise(JOURNAL_GAIN) / (inputs // 2) + technical_noise
    return holevo_bits_per_mode(photons, eta**power, noise) / WEIGHTS_PER_MODE


def journal_data_bits(neurons: float) -> float:
    """Return bits per data symbol as the journal's neurons_and_loss.m computes them.

    Its form of the bound, with 784 rows over the neurons of the layer for M/n.
    """
    noise = added_noise(JOURNAL_GAIN)
    return 0.5 * math.log2(1.0 + INPUTS / neurons * noise**2 / (1.0 + noise))


def entropy_of_eigenvalues(setting: Setting) -> float:
    """Return bits per mode if the entropy's argument is the symplectic eigenvalue itself.

    (x + 1) log2(x + 1) - x log2 x is the entropy of a mode with x photons. The scripts call an
    entropy function that they leave out; a co-author's fork (dirkenglund, G.m) adds this one and
    passes it the eigenvalues nu, which mean (nu - 1)/2 photons.
    """
    noise = added_noise(setting.gain) / MODES
    a, b = 2.0 * setting.mean_photons + 1.0, 2.0 * setting.mean_photons + 1.0 + noise
    c_squared = a * a - 1.0
    z = math.sqrt((a + b) ** 2 - 4.0 * c_squared)
    first, second, conditioned = 0.5 * (z + b - a), 0.5 * (z - b + a), b - c_squared / (a + 1.0)
    return _photon_entropy(first) + _photon_entropy(second) - _photon_entropy(conditioned)


def _photon_entropy(photons: float) -> float:
    return (photons + 1.0) * math.log2(photons + 1.0) - photons * math.log2(photons)
