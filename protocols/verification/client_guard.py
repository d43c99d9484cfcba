"""The client's power monitor: refuses light that is brighter than what was agreed.

Everything that the client's clone adds is small against bright light: a server that sends more
photons than agreed reads more of the data from what returns. A splitter in front of the rotation
takes a small share to a photodetector, whose counts are Poissonian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.errors import SettingError, VerificationError
from labctl.protocols.encoding import Blocks
from labctl.protocols.verification.noise_ratio import normal_isf

# The sum of 1/n^2 over all n is pi^2/6: shares of 6/(pi^2 n^2) add up to 1 however many looks come.
_LOOKS = 6.0 / math.pi**2


@dataclass(frozen=True)
class PowerMonitor:
    """Splitter and photodetector: share of the light taken, efficiency, dark counts per mode.

    `relative_uncertainty`: standard uncertainty of share times efficiency. The defaults are those
    of typical parts: a splitter of 1 %, which costs 0.04 dB, and a photodiode of 1.0 A/W at 1550 nm
    (1.25 A/W would be an efficiency of 1).
    """

    share: float = 0.01
    efficiency: float = 0.8
    dark_counts_per_mode: float = 0.0
    relative_uncertainty: float = 0.01

    def __post_init__(self) -> None:
        for name in ("share", "efficiency"):
            checks.above(name, getattr(self, name), 0.0, 1.0)
        for name in ("dark_counts_per_mode", "relative_uncertainty"):
            checks.not_negative(name, getattr(self, name))

    @property
    def sensitivity(self) -> float:
        """Counts per photon that arrives."""
        return self.share * self.efficiency


@dataclass(frozen=True)
class PowerLimit:
    """What was agreed: mean photons per mode at the client, over a layer and for one block.

    `peak_ratio`: photons per mode that one block of one row may have, over those of the layer. A
    network's rows differ in power; the server states how much. The default holds for the brightest
    single mode of all shipped networks. false_alarm_probability: chance that honest light at the
    limit itself is ever refused.
    """

    mean_photons: float
    # Training keeps weights within 8 times their RMS: a mode of two such weights is 64 times as
    # bright as the mean. Of the pruned network, whose weights are 0 for the most part, it is 109.
    peak_ratio: float = 128.0
    false_alarm_probability: float = 1e-6

    def __post_init__(self) -> None:
        checks.positive("mean_photons", self.mean_photons)
        checks.at_least("peak_ratio", self.peak_ratio, 1.0)
        checks.probability("false_alarm_probability", self.false_alarm_probability)


class ClientGuard:
    """Watches the arriving light of a whole session, layer by layer.

    Counts of a layer are pooled over its frames. The false alarms are shared among layers and
    looks as 1/k^2, so that they stay within the limit's however long the session is.
    """

    def __init__(self, limit: PowerLimit, monitor: PowerMonitor, *, seed: int) -> None:
        self.limit = limit
        self.monitor = monitor
        self._random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(17,)))
        self._pooled: dict[int, tuple[int, int, int]] = {}

    def check(
        self,
        layer: int,
        blocks: Blocks,
        arriving: npt.NDArray[np.float64] | None,
        frames: int = 1,
    ) -> None:
        """Measure `frames` frames of light with `arriving` photons (rows, blocks) each.

        Raises VerificationError, naming the photons per mode measured and allowed, if a layer or a
        block of it is too bright, SettingError if the link measures no arriving light.
        """
        if arriving is None:
            raise SettingError("power monitor", None, "on a link that measures arriving light")
        if not (np.isfinite(arriving).all() and (arriving >= 0.0).all()):
            raise VerificationError("arriving light: powers must be finite and 0 or more")
        sizes = np.array(blocks.sizes, np.float64)
        dark = self.monitor.dark_counts_per_mode * sizes
        expected = frames * (self.monitor.sensitivity * arriving + dark)
        # Beyond what a Poisson variable holds in 64 bits there is no doubt left.
        counts = self._random.poisson(np.minimum(expected, 1e18))
        self.judge(layer, blocks, counts, frames)

    def judge(
        self, layer: int, blocks: Blocks, counts: npt.NDArray[np.int64], frames: int = 1
    ) -> None:
        """Judge photon counts (rows, blocks) of `frames` frames; see `check`."""
        before, looks, pooled = self._pooled.get(layer, (0, 0, 0))
        total, look = before + int(counts.sum(dtype=np.float64)), looks + 1
        modes = pooled + frames * blocks.modes * len(counts)
        self._pooled[layer] = (total, look, modes)
        share = self.limit.false_alarm_probability * (_LOOKS / ((layer + 1) * look)) ** 2 / 2.0
        self._refuse(total, modes, self.limit.mean_photons, share, f"layer {layer + 1}")
        peak = self.limit.mean_photons * self.limit.peak_ratio
        for block, size in enumerate(blocks.sizes):
            row = int(np.argmax(counts[:, block]))
            where = f"row {row + 1}, block {block + 1} of layer {layer + 1}"
            self._refuse(int(counts[row, block]), frames * size, peak, share / counts.size, where)

    def _refuse(self, counts: int, modes: int, allowed: float, share: float, where: str) -> None:
        """Raise VerificationError if light at the limit shows this number of counts too rarely.

        Half of the share goes to the monitor's own uncertainty.
        """
        from scipy.special import gammainc

        monitor = self.monitor
        known = 1.0 + normal_isf(share / 2.0) * monitor.relative_uncertainty
        most = modes * (monitor.sensitivity * allowed * known + monitor.dark_counts_per_mode)
        # The tail of Poisson counts is an incomplete gamma function.
        if counts == 0 or float(gammainc(float(counts), most)) >= share / 2.0:
            return
        measured = (counts / modes - monitor.dark_counts_per_mode) / monitor.sensitivity
        raise VerificationError(
            f"{where} arrives with {measured:.4g} photons per mode, {allowed:.4g} are allowed: "
            "brighter light would read the client's data; refused before anything is returned"
        )
