"""The true parameters of a simulated bench: drawn around its file, shown to tests alone.

Drivers, panels and calibration see the components act; only `LinkBench.truth()` returns them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from labctl.instruments.simulated.bench_tables import BenchFile, ReceiverTable
from labctl.instruments.simulated.panel_tables import DriveName
from labctl.instruments.simulated.physics.grid import Seeds
from labctl.instruments.simulated.physics.path import Fibre

# 0.27 % of normal draws lie beyond and are drawn again, so that no part is absurd.
CUT_OFF = 3.0
# What is drawn relative to the file's value, by the key of the spread.
RELATIVE: dict[str, tuple[tuple[str, str], ...]] = {
    "v_pi": (
        ("modulator", "v_pi_i_v"),
        ("modulator", "v_pi_q_v"),
        ("modulator", "v_pi_parent_v"),
        ("client", "phase_shifter_v_pi_v"),
        ("server", "phase_shifter_v_pi_v"),
    ),
    "extinction_ratio": (("modulator", "extinction_ratio_db"),),
    "insertion_loss": (
        ("modulator", "insertion_loss_db"),
        ("attenuation", "insertion_loss_db"),
        ("attenuation", "fixed_db"),
        ("forward", "connector_loss_db"),
        ("back", "connector_loss_db"),
    ),
    "splitters": (
        ("laser", "signal_fraction"),
        ("client", "lo_fraction"),
        ("server", "lo_fraction"),
        ("monitor", "tap_fraction"),
    ),
    "responsivity": (("monitor", "responsivity_a_w"),),
    "attenuator_scale": (("attenuation", "scale"),),
    "fibre_length": (("forward", "length_km"), ("back", "length_km")),
    "lo_delay": (("client", "lo_delay_s"), ("server", "lo_delay_s")),
    "amplifier_gain": (("rotation", "gain_per_v"),),
    "rotation_loss": (("rotation", "loss_db_per_mode"),),
    "rotation_errors": (("rotation", "coupler_error_rad"), ("rotation", "phase_error_rad")),
    "efficiency": (("client", "efficiency"), ("server", "efficiency")),
    "transimpedance": (("client", "transimpedance_v_a"), ("server", "transimpedance_v_a")),
    "electronic_noise": (
        ("client", "electronic_noise_a_rthz"),
        ("server", "electronic_noise_a_rthz"),
    ),
    "common_mode_rejection": (
        ("client", "common_mode_rejection_db"),
        ("server", "common_mode_rejection_db"),
    ),
    "linewidth": (("laser", "linewidth_hz"),),
    "intensity_noise": (("laser", "rin_db_hz"),),
    "generator_bandwidth": (("generators", "bandwidth_hz"),),
    "detector_bandwidth": (("client", "bandwidth_hz"), ("server", "bandwidth_hz")),
}


# What each tap of the link draws, by the key of the spread.
OF_TAPS = {"splitters": "fraction", "responsivity": "responsivity_a_w"}


@dataclass(frozen=True)
class ReceiverTruth:
    """A receiver's true parameters, with the units in their names.

    Gains and offsets are those of the digitizer's channels 1 and 2.
    """

    lo_fraction: float
    lo_delay_s: float
    phase_shifter_v_pi_v: float
    efficiency: float
    transimpedance_v_a: float
    bandwidth_hz: float
    electronic_noise_a_rthz: float
    common_mode_rejection_db: float
    digitizer_gain: tuple[float, float]
    digitizer_offset_v: tuple[float, float]


@dataclass(frozen=True)
class TapTruth:
    """A tap's true share of the light, and its head's responsivity at 1550 nm."""

    fraction: float
    responsivity_a_w: float


@dataclass(frozen=True)
class BenchTruth:
    """A bench's true parameters, with the units in their names.

    Half-wave voltages and offsets are those of child I, child Q and parent; `transmitter_loss_db`
    is what modulator, attenuator at 0 dB and fixed attenuation lose together, taps not counted;
    transmittances are those of whole legs, taps not counted; delays are those of the bench's time
    grid; net gain and arm phase are the clone's at time zero; gains and offsets of generators go
    by what an output drives. Errors of couplers and phases are the standard deviations of all
    elements', of which the seed draws each.
    """

    linewidth_hz: float
    rin_db_hz: float
    generator_bandwidth_hz: float
    signal_fraction: float
    v_pi_v: tuple[float, float, float]
    offset_rad: tuple[float, float, float]
    extinction_ratio_db: float
    insertion_loss_db: float
    tap_fraction: float
    responsivity_a_w: float
    transmitter_loss_db: float
    forward_transmittance: float
    forward_delay_s: float
    back_transmittance: float
    back_delay_s: float
    gain_per_v: float
    emission_factor: float
    loss_db_per_mode: float
    coupler_error_rad: float
    phase_error_rad: float
    net_gain_error: float
    arm_phase_rad: float
    attenuator_scale: float
    taps: dict[str, TapTruth]
    generator_gain: dict[str, float]
    generator_offset_v: dict[str, float]
    client: ReceiverTruth
    server: ReceiverTruth


def draw(table: BenchFile) -> BenchFile:
    """Return the table of a bench drawn around this one by its spread and seed.

    Each value has its own stream: a spread that is added leaves the others' draws as they are.
    """
    seeds = Seeds(table.seed)
    changes: dict[str, dict[str, object]] = {}
    for key, values in RELATIVE.items():
        spread = getattr(table.spread, key)
        for part, name in values if spread > 0.0 else ():
            true = getattr(getattr(table, part), name) * (
                1.0 + spread * _deviate(seeds, f"{part}.{name}")
            )
            changes.setdefault(part, {})[name] = true
    if table.spread.offset_rad > 0.0:
        changes.setdefault("modulator", {})["offset_rad"] = tuple(
            offset + table.spread.offset_rad * _deviate(seeds, f"modulator.offset_rad.{place}")
            for place, offset in enumerate(table.modulator.offset_rad)
        )
    for key, name in (("net_gain", "net_gain_error"), ("arm_phase_rad", "arm_phase_rad")):
        spread = getattr(table.spread, key)
        if spread > 0.0:
            drawn = getattr(table.rotation, name) + spread * _deviate(seeds, f"rotation.{name}")
            changes.setdefault("rotation", {})[name] = drawn
    if table.spread.emission_factor > 0.0:
        above = abs(table.spread.emission_factor * _deviate(seeds, "rotation.emission_factor"))
        emitted = table.rotation.emission_factor + above
        changes.setdefault("rotation", {})["emission_factor"] = emitted
    _draw_channels(table, seeds, changes)
    parts: dict[str, Any] = {
        name: getattr(table, name).model_copy(update=true) for name, true in changes.items()
    }
    return table.model_copy(update=parts | {"taps": _drawn_taps(table, seeds)})


def _draw_channels(table: BenchFile, seeds: Seeds, changes: dict[str, dict[str, object]]) -> None:
    """Draw gains and offsets of generators' outputs and digitizers' channels."""
    spread, generators = table.spread, table.generators
    for key, width, held, exact in (
        ("gain", spread.generator_gain, generators.gain, 1.0),
        ("offset_v", spread.generator_offset_v, generators.offset_v, 0.0),
    ):
        if width > 0.0:
            changes.setdefault("generators", {})[key] = {
                name: held.get(name, exact) + width * _deviate(seeds, f"generators.{key}.{name}")
                for name in get_args(DriveName)
            }
    for party in ("client", "server"):
        for key in ("digitizer_gain", "digitizer_offset_v"):
            width = getattr(spread, key)
            if width > 0.0:
                changes.setdefault(party, {})[key] = tuple(
                    value + width * _deviate(seeds, f"{party}.{key}.{place}")
                    for place, value in enumerate(getattr(getattr(table, party), key))
                )


def _drawn_taps(table: BenchFile, seeds: Seeds) -> dict[str, Any]:
    taps: dict[str, Any] = {}
    for name, tap in table.taps.items():
        true = {
            value: getattr(tap, value)
            * (1.0 + getattr(table.spread, key) * _deviate(seeds, f"taps.{name}.{value}"))
            for key, value in OF_TAPS.items()
        }
        taps[name] = tap.model_copy(update=true)
    return taps


def _deviate(seeds: Seeds, name: str) -> float:
    """Return a normal number within the cut-off."""
    generator = seeds.noise(f"true {name}").generator
    while abs(deviate := float(generator.standard_normal())) > CUT_OFF:
        pass
    return deviate


def truth_of(table: BenchFile) -> BenchTruth:
    """Return the parameters of a bench that is exactly as a table says."""
    modulator, attenuation = table.modulator, table.attenuation
    forward, back = (Fibre(**leg.model_dump()) for leg in (table.forward, table.back))
    rotation = table.rotation
    return BenchTruth(
        linewidth_hz=table.laser.linewidth_hz,
        rin_db_hz=table.laser.rin_db_hz,
        generator_bandwidth_hz=table.generators.bandwidth_hz,
        signal_fraction=table.laser.signal_fraction,
        v_pi_v=(modulator.v_pi_i_v, modulator.v_pi_q_v, modulator.v_pi_parent_v),
        offset_rad=modulator.offset_rad,
        extinction_ratio_db=modulator.extinction_ratio_db,
        insertion_loss_db=modulator.insertion_loss_db,
        tap_fraction=table.monitor.tap_fraction,
        responsivity_a_w=table.monitor.responsivity_a_w,
        transmitter_loss_db=modulator.insertion_loss_db
        + attenuation.insertion_loss_db
        + attenuation.fixed_db,
        forward_transmittance=forward.transmittance,
        forward_delay_s=_on_grid_s(forward.delay_s, table.grid_hz),
        back_transmittance=back.transmittance,
        back_delay_s=_on_grid_s(back.delay_s, table.grid_hz),
        gain_per_v=rotation.gain_per_v,
        emission_factor=rotation.emission_factor,
        loss_db_per_mode=rotation.loss_db_per_mode,
        coupler_error_rad=rotation.coupler_error_rad,
        phase_error_rad=rotation.phase_error_rad,
        net_gain_error=rotation.net_gain_error,
        arm_phase_rad=rotation.arm_phase_rad,
        attenuator_scale=attenuation.scale,
        taps={
            name: TapTruth(tap.fraction, tap.responsivity_a_w) for name, tap in table.taps.items()
        },
        generator_gain={n: table.generators.gain.get(n, 1.0) for n in get_args(DriveName)},
        generator_offset_v={n: table.generators.offset_v.get(n, 0.0) for n in get_args(DriveName)},
        client=_receiver_truth(table.client, table.grid_hz),
        server=_receiver_truth(table.server, table.grid_hz),
    )


def _receiver_truth(table: ReceiverTable, grid_hz: float) -> ReceiverTruth:
    return ReceiverTruth(
        lo_fraction=table.lo_fraction,
        lo_delay_s=_on_grid_s(table.lo_delay_s, grid_hz),
        phase_shifter_v_pi_v=table.phase_shifter_v_pi_v,
        efficiency=table.efficiency,
        transimpedance_v_a=table.transimpedance_v_a,
        bandwidth_hz=table.bandwidth_hz,
        electronic_noise_a_rthz=table.electronic_noise_a_rthz,
        common_mode_rejection_db=table.common_mode_rejection_db,
        digitizer_gain=table.digitizer_gain,
        digitizer_offset_v=table.digitizer_offset_v,
    )


def _on_grid_s(delay_s: float, grid_hz: float) -> float:
    """Return the delay that light computed on a time grid really has."""
    return round(delay_s * grid_hz) / grid_hz
