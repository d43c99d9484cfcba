"""Station files: which instruments stand in the lab, what each party uses them for, and limits.

Reading one opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from labctl.errors import StationFileError
from labctl.toml_file import place, read_toml

SIMULATED = "@labctl"

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Channel = Annotated[int, Field(ge=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Limit(_Table):
    """Lowest and highest value that may be sent, in the unit of the quantity's name."""

    low: float
    high: float


class InstrumentTable(_Table):
    """One instrument: its driver, its VISA address, options of the driver, limits by quantity."""

    driver: Annotated[str, Field(min_length=1)]
    address: Annotated[str, Field(min_length=1)]
    options: dict[str, str | int | float | bool] = {}
    limits: dict[str, Limit] = {}


class OutputRole(_Table):
    """One channel of an instrument."""

    instrument: str
    channel: Channel


class PairRole(_Table):
    """Two channels of a generator for the two parts of a complex waveform."""

    instrument: str
    i_channel: Channel
    q_channel: Channel


class MeterRole(_Table):
    """One input of a power meter that sees a known share of a fibre's light.

    `ratio`: power in the fibre over power at the input, with its relative standard uncertainty
    (that of the meter's own calibration included).
    """

    instrument: str
    channel: Channel
    ratio: Positive
    ratio_uncertainty: Annotated[float, Field(gt=0.0, lt=0.5)]


class ServerConstants(_Table):
    """What is known of the server's hardware.

    `monitor_ratio`: optical power into the attenuators over the power on the monitor's head.
    `fixed_attenuation_db`: all loss from there to the fibre with the attenuator at 0 dB;
    `attenuator_slope`: what its dB are in dB. `iq_gain`: field of child Q over that of child I at
    the same drive in units of their half-wave voltages. `rin_db_hz`: the laser's relative intensity
    noise; with it and each party's `lo_share`, part of the laser's light in its local oscillator,
    a common-mode rejection can be told.
    `efficiency`: of the receiver, detector and mode matching. `transmittance` of the round trip.
    Standard uncertainties are in the unit of what they are of; those of efficiency and fixed
    attenuation count until a calibration has measured them.
    """

    v_pi_i_v: Positive
    v_pi_q_v: Positive
    monitor_ratio: Positive
    fixed_attenuation_db: NotNegative
    shutter_closed_v: float
    phase_shifter_v_pi_v: Positive
    efficiency: Fraction
    detector_delay_s: NotNegative
    transmittance: Fraction
    transmittance_uncertainty: NotNegative
    excess_noise_uncertainty: NotNegative
    efficiency_uncertainty: NotNegative = 0.05
    fixed_attenuation_uncertainty_db: NotNegative = 0.3
    iq_gain: Positive = 1.0
    attenuator_slope: Positive = 1.0
    rin_db_hz: float | None = None
    rin_uncertainty_db: NotNegative = 1.0
    lo_share: Fraction | None = None
    lo_share_uncertainty: NotNegative = 0.05


class ClientConstants(_Table):
    """What is known of the client's hardware.

    `gain_per_v`: amplifier gain above 1 per volt of its control, which is surely 1 at `gain_off_v`.
    `electronic_noise` in SNU.
    `block_modes`: modes that the rotation unit collects at a time, left out for whole rows; each of
    its elements loses `rotation_loss_db_per_mode` each way and is off by `rotation_error_rad`,
    couplers and phases taken together, of which the collected light tells no more. `storage_s`: how
    long the unit delays light, which all turns of a block must fit into; needed where its light is
    turned more than once.
    """

    phase_shifter_v_pi_v: Positive
    gain_per_v: Positive
    gain_off_v: float = 0.0
    emission_factor: Annotated[float, Field(ge=1.0)]
    efficiency: Fraction
    electronic_noise: NotNegative
    detector_delay_s: NotNegative
    block_modes: Annotated[int, Field(ge=1)] | None = None
    rotation_loss_db_per_mode: NotNegative = 0.0
    rotation_error_rad: NotNegative = 0.0
    lo_share: Fraction | None = None
    storage_s: NotNegative | None = None


class ServerRoles(_Table):
    """Which instrument does what for the server.

    `launch_meter` sees what enters the fibre, `return_meter` what comes back to the receiver:
    calibration needs them, a session does not.
    """

    laser: str
    laser_power_dbm: float
    laser_wavelength_nm: Annotated[float, Field(gt=1200.0, lt=1700.0)]
    drive: PairRole
    bias_i: str
    bias_q: str
    bias_parent: str
    attenuator: str
    monitor: str
    lo_phase: OutputRole
    shutter: OutputRole
    digitizer: OutputRole
    launch_meter: MeterRole | None = None
    return_meter: MeterRole | None = None
    constants: ServerConstants


class ClientRoles(_Table):
    """Which instrument does what for the client; `arrival_meter` sees what arrives there."""

    rotation: PairRole
    lo_phase: OutputRole
    gain: OutputRole
    digitizer: OutputRole
    arrival_meter: MeterRole | None = None
    constants: ClientConstants


class FrameTable(_Table):
    """Timing that both parties agree on.

    `linewidth_hz`: of the light against the local oscillator, as far as matched paths leave it.
    `turns`: of each block's light in the client's rotation unit, which collects a mode in each; a
    block takes as many times its slots.
    """

    symbol_rate_hz: Positive
    sample_rate_hz: Positive
    preamble_symbols: Annotated[int, Field(ge=31)]
    guard_symbols: Annotated[int, Field(ge=2)]
    longest_delay_s: Positive
    linewidth_hz: NotNegative = 10.0
    turns: Annotated[int, Field(ge=1)] = 1


class StationFile(_Table):
    """A whole station file.

    `library` is the VISA library: "" for the system's, "@py", or "FILE@labctl" for a simulated
    bench, FILE being relative to the station file. `record`: a file, relative to the station file,
    to which all messages with the instruments are written; if it exists, the next free of
    FILE-2, FILE-3 and so on.
    """

    name: str
    library: str
    record: Annotated[str, Field(min_length=1)] | None = None
    instruments: dict[str, InstrumentTable]
    frame: FrameTable
    server: ServerRoles
    client: ClientRoles

    def roles(self) -> Iterator[tuple[str, str]]:
        """Yield each role with the instrument that plays it."""
        for party, table in (("server", self.server), ("client", self.client)):
            for role in type(table).model_fields:
                value = getattr(table, role)
                if isinstance(value, OutputRole | PairRole | MeterRole):
                    yield f"{party}.{role}", value.instrument
                elif isinstance(value, str):
                    yield f"{party}.{role}", value


def read_station_file(path: Path) -> StationFile:
    """Read and check a station file; raises StationFileError naming file, line and what is valid.

    Beyond types and keys: each role's instrument exists, each instrument has a role, addresses
    differ, limits are ordered.
    """
    station = read_toml(path, StationFile)
    roles = dict(station.roles())
    for role, instrument in roles.items():
        if instrument not in station.instruments:
            known = ", ".join(station.instruments)
            where = place(path, *role.split("."))
            raise StationFileError(
                f"{where}: role {role} wants instrument {instrument!r}; there are: {known}"
            )
    addresses: dict[str, str] = {}
    for name, table in station.instruments.items():
        if name not in roles.values():
            where = place(path, "instruments", name)
            raise StationFileError(f"{where}: instrument {name!r} has no role")
        if table.address in addresses:
            where = place(path, "instruments", name, "address")
            raise StationFileError(
                f"{where}: {name!r} and {addresses[table.address]!r} share address "
                f"{table.address!r}"
            )
        addresses[table.address] = name
        for quantity, limit in table.limits.items():
            if limit.low > limit.high:
                where = place(path, "instruments", name, "limits", quantity)
                raise StationFileError(
                    f"{where}: {name}.limits.{quantity}: low {limit.low} is above high {limit.high}"
                )
    return station


def library_of(station: StationFile, path: Path) -> str:
    """Return the VISA library string, with a bench file in it made absolute."""
    if not station.library.endswith(SIMULATED) or station.library == SIMULATED:
        return station.library
    bench = station.library.removesuffix(SIMULATED)
    return f"{(path.parent / bench).resolve()}{SIMULATED}"


def record_of(station: StationFile, path: Path) -> Path | None:
    """Return the file that a station's next wire record goes to, None if it keeps none."""
    if station.record is None:
        return None
    wanted = free = (path.parent / station.record).resolve()
    number = 1
    while free.exists():
        number += 1
        free = wanted.with_stem(f"{wanted.stem}-{number}")
    return free
