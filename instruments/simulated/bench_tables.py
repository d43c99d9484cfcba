"""The tables of a bench file: what is on the bench, with every physical parameter and unit."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from labctl.instruments.simulated.panel_tables import DriveName, NotNegative, PanelTable, Positive
from labctl.instruments.simulated.side_tables import SideName, SideTable

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
Spread = Annotated[float, Field(ge=0.0, le=0.3)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LaserTable(_Table):
    """The source; `signal_fraction` of its light goes to the modulator."""

    linewidth_hz: NotNegative
    rin_db_hz: Annotated[float, Field(lt=-100.0)]
    signal_fraction: Fraction


class ClientLaserTable(_Table):
    """The client's own laser, its local oscillator instead of the server's light.

    Its light is `frequency_error_hz` off the frequency that is set at time zero, and `drift_hz_s`
    further each second. `client.lo_fraction` is the share of its power at the detector, and
    `client.lo_delay_s` means nothing.
    """

    linewidth_hz: NotNegative
    rin_db_hz: Annotated[float, Field(lt=-100.0)]
    frequency_error_hz: float = 0.0
    drift_hz_s: float = 0.0


class DriveTable(_Table):
    """Output stages of all generators; `gain` and `offset_v` by what an output drives: 1 and 0."""

    bits: Annotated[int, Field(ge=4, le=24)]
    full_scale_v: Positive
    bandwidth_hz: Positive
    noise_v: NotNegative
    gain: dict[DriveName, Positive] = {}
    offset_v: dict[DriveName, float] = {}


class ModulatorTable(_Table):
    """The I/Q modulator.

    `bias_drift_v_pi_rth`: walk of each electrode's offset, in half-wave voltages per square root
    of an hour; a locked controller follows it.
    """

    v_pi_i_v: Positive
    v_pi_q_v: Positive
    v_pi_parent_v: Positive
    extinction_ratio_db: Positive
    insertion_loss_db: NotNegative
    lock_error_rad: NotNegative
    offset_rad: tuple[float, float, float]
    bias_drift_v_pi_rth: NotNegative = 0.0


class MonitorTable(_Table):
    """The monitor tap and its power head."""

    tap_fraction: Annotated[float, Field(gt=0.0, lt=1.0)]
    responsivity_a_w: Positive
    dark_current_a: NotNegative
    noise_a: NotNegative


class AttenuationTable(_Table):
    """Between modulator and fibre: the variable attenuator's insertion loss, and a fixed one.

    `scale`: decibels that it attenuates per decibel that it is set to.
    """

    insertion_loss_db: NotNegative
    fixed_db: NotNegative
    scale: Positive = 1.0


class TapTable(_Table):
    """A splitter in the link's fibre, and the power head on the small share that it takes."""

    fraction: Annotated[float, Field(gt=0.0, lt=0.5)]
    responsivity_a_w: Positive
    dark_current_a: NotNegative
    noise_a: NotNegative


TapName = Literal["launch", "arrival", "return"]


class FibreTable(_Table):
    """One leg of the link; `dispersion_ps_nm_km` is 17 for standard fibre at 1550 nm."""

    length_km: NotNegative
    loss_db_km: NotNegative
    connector_loss_db: NotNegative
    dispersion_ps_nm_km: float = 0.0


class RotationTable(_Table):
    """The client's rotation and clone.

    A block of b modes passes b elements each way: each loses `loss_db_per_mode`, and is off by
    fixed amounts with the standard deviations `coupler_error_rad` and `phase_error_rad`. A unit
    built for blocks of `block_modes` splits each generator cycle into them; without, a cycle is one
    block. A block's light is turned round `turns` times, another mode being collected in each turn.
    With `pilots_measured` a block's first slot, its pilot, passes the clone, so that the detector
    sees it; without, it goes straight back. What the clone returns has net amplitude 1 +
    `net_gain_error` (relative) and phase `arm_phase_rad`; both walk, `net_gain_drift_rth` and
    `arm_phase_drift_rad_rth` being standard deviations per square root of an hour.
    """

    gain_per_v: Positive
    emission_factor: Annotated[float, Field(ge=1.0)]
    symbol_rate_hz: Positive
    storage_s: NotNegative
    loss_db_per_mode: NotNegative = 0.0
    coupler_error_rad: NotNegative = 0.0
    phase_error_rad: NotNegative = 0.0
    block_modes: Annotated[int, Field(ge=1)] | None = None
    turns: Annotated[int, Field(ge=1)] = 1
    net_gain_error: Annotated[float, Field(gt=-0.5, lt=0.5)] = 0.0
    arm_phase_rad: Annotated[float, Field(ge=-math.pi, le=math.pi)] = 0.0
    net_gain_drift_rth: NotNegative = 0.0
    arm_phase_drift_rad_rth: NotNegative = 0.0
    pilots_measured: bool = False


class ReceiverTable(_Table):
    """A homodyne receiver, its local-oscillator path and digitizer.

    `polarisation_drift_rad2_s`: variance per second of the signal's walk on the Poincare sphere;
    `saturation_power_w`: local-oscillator power at which the photodiodes lose half of their
    carriers, 0 for never; `digitizer_jitter_s`: standard deviation of the time of a sample;
    `digitizer_gain` and `digitizer_offset_v`: errors of the digitizer's channels 1 and 2.
    """

    lo_fraction: Fraction
    lo_delay_s: NotNegative
    phase_shifter_v_pi_v: Positive
    phase_drift_rad2_s: NotNegative
    efficiency: Fraction
    transimpedance_v_a: Positive
    bandwidth_hz: Positive
    electronic_noise_a_rthz: NotNegative
    common_mode_rejection_db: NotNegative
    swing_v: Positive
    digitizer_bits: Annotated[int, Field(ge=4, le=24)]
    digitizer_noise_v: NotNegative
    polarisation_drift_rad2_s: NotNegative = 0.0
    saturation_power_w: NotNegative = 0.0
    digitizer_jitter_s: NotNegative = 0.0
    digitizer_gain: tuple[Positive, Positive] = (1.0, 1.0)
    digitizer_offset_v: tuple[float, float] = (0.0, 0.0)


class ShutterTable(_Table):
    """The shutter before the server's receiver."""

    threshold_v: Positive
    isolation_db: Positive


class ProbeTable(_Table):
    """A line beside the link: its own laser, a fibre, a power head."""

    linewidth_hz: NotNegative
    rin_db_hz: Annotated[float, Field(lt=-100.0)]
    insertion_loss_db: NotNegative


class LoadTable(_Table):
    """The load of a direct-current output; with `electrode`, its voltage adds to that bias."""

    resistance_ohm: Positive
    noise_v: NotNegative
    electrode: Literal["child_i", "child_q", "parent"] | None = None


class SpreadTable(_Table):
    """How far the components are from their data sheets; each is drawn from the bench's seed.

    Standard deviations of normal distributions cut off at three of them, 0 unless given: in rad
    or V for offsets, otherwise relative to the value in the file (of decibels where that is in
    decibels). `v_pi` is for modulator and phase shifters, `splitters` for the shares of laser and
    taps, `insertion_loss` for all losses but those of fibre, `responsivity` for what power heads
    are off from their calibration, `attenuator_scale` for the variable attenuator; generators
    and digitizers have a draw for each output and channel. `net_gain` and `arm_phase_rad` are for
    what the client's clone returns, `net_gain` added as it is to 1. `rotation_loss` is for the loss
    of the rotation's elements, `rotation_errors` for the deviations of their angles and phases.
    `emission_factor` is added as it is, the drawn number's size: no amplifier is below the limit.
    """

    v_pi: Spread = 0.0
    offset_rad: NotNegative = 0.0
    extinction_ratio: Spread = 0.0
    insertion_loss: Spread = 0.0
    splitters: Spread = 0.0
    responsivity: Spread = 0.0
    fibre_length: Spread = 0.0
    lo_delay: Spread = 0.0
    amplifier_gain: Spread = 0.0
    emission_factor: NotNegative = 0.0
    rotation_loss: Spread = 0.0
    rotation_errors: Spread = 0.0
    net_gain: Annotated[float, Field(ge=0.0, lt=0.1)] = 0.0
    arm_phase_rad: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    efficiency: Spread = 0.0
    transimpedance: Spread = 0.0
    electronic_noise: Spread = 0.0
    common_mode_rejection: Spread = 0.0
    attenuator_scale: Spread = 0.0
    generator_gain: Spread = 0.0
    generator_offset_v: NotNegative = 0.0
    digitizer_gain: Spread = 0.0
    digitizer_offset_v: NotNegative = 0.0
    linewidth: Spread = 0.0
    intensity_noise: Annotated[float, Field(ge=0.0, le=0.1)] = 0.0
    generator_bandwidth: Spread = 0.0
    detector_bandwidth: Spread = 0.0


class BenchFile(_Table):
    """A whole bench file."""

    seed: Annotated[int, Field(ge=0)]
    grid_hz: Positive
    laser: LaserTable
    generators: DriveTable
    modulator: ModulatorTable
    monitor: MonitorTable
    attenuation: AttenuationTable
    forward: FibreTable
    rotation: RotationTable
    back: FibreTable
    shutter: ShutterTable
    client: ReceiverTable
    server: ReceiverTable
    client_laser: ClientLaserTable | None = None
    taps: dict[TapName, TapTable] = {}
    spread: SpreadTable = SpreadTable()
    probes: dict[str, ProbeTable] = {}
    loads: dict[str, LoadTable] = {}
    panels: dict[str, PanelTable]
    doors: dict[SideName, SideTable] = {}
