"""The leakage of a setting, without running anything: of one query, and of many together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labctl import checks
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.carried import carried, require_blocks_of
from labctl.protocols.encoding import modes_of, require_block_modes
from labctl.protocols.leakage import Assumptions, LayerShape, Leakage, leakage_of, spectrum_of
from labctl.protocols.leakage.cumulative import AssumedChannel, Cumulative, cumulative
from labctl.protocols.receiver import MOST_NOISE
from labctl.protocols.rotation import Rotation
from labctl.protocols.settings import VerificationSettings
from labctl.protocols.verification.collective_noise import expected_noise_upper
from labctl.protocols.weight_distribution import WeightDistribution
from labctl.protocols.weight_search import look_at
from labctl.units import db_to_ratio

# As many as a ledger counts.
_MOST_QUERIES = 10**12


@dataclass(frozen=True)
class LeakageOfSetting:
    """What one query leaks, and all of them together, in bits; `first` is the first layer.

    `distribution`: whether the network's weights are such that figures for Gaussian weights apply
    to them; None where no network was given.
    """

    one: Leakage
    together: Cumulative
    first: LayerShape
    distribution: WeightDistribution | None = None


# Rows of a million modes are beyond any network that is sent here.
_MOST_COUNT = 10**6


# The first layer of 784 inputs and as many neurons, two inputs a mode.
MODES, ROWS = 392, 784


def shape_asked(
    network: Callable[[], Network] | None,
    modes: int | None,
    rows: int | None,
    block_modes: int | None = None,
) -> LayerShape | Network:
    """Return the network whose shape counts, or a layer's: 784 rows of 392 modes unless given.

    Raises SettingError where both are given.
    """
    if network is None:
        return layer_shape(
            ROWS if rows is None else rows, MODES if modes is None else modes, block_modes
        )
    for name, value in (("modes", modes), ("rows", rows)):
        if value is not None:
            raise SettingError(name, value, "left out with a model, which has its own")
    return network()


def layer_shape(rows: int, modes: int, block_modes: int | None = None) -> LayerShape:
    """Return the shape of a layer of `rows` rows of `modes` modes, two inputs a mode.

    Raises SettingError for numbers below 1.
    """
    for name, value in (("modes", modes), ("rows", rows)):
        checks.whole(name, value, 1, _MOST_COUNT)
    require_block_modes(block_modes, modes)
    return LayerShape(rows=rows, modes=modes, inputs=2 * modes, block_modes=block_modes)


def leakage_of_setting(
    shape: LayerShape | Network,
    *,
    mean_photons: float,
    gain: float,
    loss_db: float,
    technical_noise: float,
    assumptions: Assumptions,
    queries: int,
    block_modes: int | None = None,
    rotation_loss_db_per_mode: float = 0.0,
    honest_prior: bool = False,
    failure_probability: float = 1e-10,
) -> LeakageOfSetting:
    """Return what a setting leaks, by the closed forms and for an honest client's light.

    `shape`: one layer's, or a network, whose own bound is then given too. `mean_photons` per mode,
    `loss_db` of the round trip, `technical_noise` in SNU; `queries` of the same weights. The first
    layer decides the bound on what repeats from query to query. Raises SettingError.
    """
    checks.whole("queries", queries, 1, _MOST_QUERIES)
    checks.within("technical_noise", technical_noise, 0.0, MOST_NOISE, note=", in SNU")
    verification = VerificationSettings(failure_probability)
    checks.below("loss_db", loss_db, 0.0, 200.0, note=" dB")
    network = carried(shape).network if isinstance(shape, Network) else None
    if isinstance(shape, Network):
        require_blocks_of(shape, block_modes)
    layers: tuple[LayerShape, ...] = (shape,) if isinstance(shape, LayerShape) else ()
    if network is not None:
        layers = tuple(
            LayerShape(len(layer), modes_of(layer.shape[1]), layer.shape[1], block_modes)
            for layer in network.layers
        )
    rotation = Rotation(rotation_loss_db_per_mode)
    modes, rows = layers[0].modes, layers[0].rows
    found = leakage_of(
        layers,
        mean_photons=mean_photons,
        gain=gain,
        transmittance=db_to_ratio(-loss_db),
        technical_noise=technical_noise,
        assumptions=assumptions,
        emission_factor=1.0,
        rotation=rotation,
        spectrum=None if network is None else spectrum_of(network),
    )
    upper = expected_noise_upper(
        found.excess_noise,
        queries=queries,
        rows=rows,
        modes=modes,
        calibration_samples=verification.calibration_samples,
        failure_probability=verification.failure_probability,
    )
    own = rotation.transmittance(block_modes or modes)
    channel = AssumedChannel(
        transmittance=db_to_ratio(-loss_db) * own,
        technical_noise=technical_noise,
        assumptions=found.assumptions,
        client_transmittance=own,
        prior_free=not honest_prior,
    )
    together = cumulative(
        channel,
        queries=queries,
        mean_photons=mean_photons,
        excess_noise=found.excess_noise,
        collective_noise=found.excess_noise,
        collective_noise_upper=upper,
    )
    distribution = look_at(shape, mean_photons) if isinstance(shape, Network) else None
    return LeakageOfSetting(found, together, layers[0], distribution)
