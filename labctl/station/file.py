"""Station files: which instruments are in the lab, within which limits, and who uses them.

`[instruments.NAME]` tables alone are a station. The tables of an experiment ([frame], [server] and
[client] of this one) say which instrument plays which role; the code that runs the experiment reads
them. Reading a file opens nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, Field

from labctl.addresses import canonical
from labctl.errors import RunFileError, StationFileError
from labctl.record_header import require_record
from labctl.station.heartbeat import COMPUTING_S, FROZEN_AFTER_S
from labctl.station.references import (
    STRICT,
    Channel,
    Fraction,
    InputRole,
    LocalOscillatorRole,
    MeterRole,
    NotNegative,
    OutputRole,
    PairRole,
    Positive,
    Reference,
    split_reference,
)
from labctl.toml_file import place, read_toml

SIMULATED = "@labctl"
# A station file that was sent by somebody else must not run its code: other names are a path of a
# shared library, or a package that is imported.
KNOWN_LIBRARIES = ("", "@py", "@ivi", SIMULATED)

Bound = Annotated[float, Field(allow_inf_nan=True)]


def _known(library: str) -> str:
    """Refuse a name that makes VISA load any other code, as a path to a library does."""
    if library not in KNOWN_LIBRARIES and not library.endswith(SIMULATED):
        known = ", ".join(f'"{name}"' for name in KNOWN_LIBRARIES)
        raise ValueError(f'expected one of {known} or "FILE{SIMULATED}", got {library!r}')
    return library


Library = Annotated[str, AfterValidator(_known)]


class _Table(BaseModel):
    model_config = STRICT


class LimitTable(_Table):
    """Lowest and highest value that may be sent, in the unit of the quantity's name.

    One that is left out is no limit; inf is none either.
    """

    low: Bound = -math.inf
    high: Bound = math.inf


class ShutterTable(_Table):
    """A shutter that an output drives: `closed_v` at `channel` (none: the only one) shuts it."""

    channel: Channel | None = None
    closed_v: float


class RampTable(_Table):
    """Voltages that may not drop at once: `channels` (none: the only one) go to 0 at `v_per_s`."""

    channels: list[Channel] = []
    v_per_s: Positive


class InstrumentTable(_Table):
    """One instrument: its driver, its VISA address, options of the driver, limits by quantity.

    `options` are the driver's own, of any kind that TOML has. `library`: the instrument's own VISA
    library, where it is not the station's. For the way out: `hazard` where it is not the driver's
    (it drives heaters, or an amplifier), `budget_s`: the longest that it may take, `shutter` and
    `ramp` that its outputs drive.
    """

    driver: Annotated[str, Field(min_length=1)]
    address: Annotated[str, Field(min_length=1)]
    library: Library | None = None
    options: dict[str, Any] = {}
    limits: dict[str, LimitTable] = {}
    hazard: Literal["emission", "shutter", "amplifier", "heater", "bias", "none"] | None = None
    budget_s: Positive | None = None
    shutter: ShutterTable | None = None
    ramp: RampTable | None = None


class ServerConstants(_Table):
    """What is known of the server's hardware.

    `monitor_ratio`: optical power into the attenuators over the power on the monitor's head.
    `fixed_attenuation_db`: all loss from there to the fibre with the attenuator at 0 dB;
    `attenuator_slope`: what its dB are in dB. `iq_gain`: field of child Q over that of child I at
    the same drive in units of their half-wave voltages. `rin_db_hz`: the laser's relative intensity
    noise; with it and each party's `lo_share`, part of the laser's light in its local oscillator,
    a common-mode rejection can be determined.
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

    laser: Reference
    laser_power_dbm: float
    laser_wavelength_nm: Annotated[float, Field(gt=1200.0, lt=1700.0)]
    drive: PairRole
    bias_i: Reference
    bias_q: Reference
    bias_parent: Reference
    attenuator: Reference
    monitor: Reference
    lo_phase: OutputRole
    shutter: OutputRole
    digitizer: InputRole
    launch_meter: MeterRole | None = None
    return_meter: MeterRole | None = None
    constants: ServerConstants


class ClientRoles(_Table):
    """Which instrument does what for the client; `arrival_meter` sees what arrives there.

    `maximum_arriving_power_w`: in the fibre at the client; more stops all emission of this station.
    `local_oscillator`: the client's own laser, left out where the server's light is.
    """

    rotation: PairRole
    lo_phase: OutputRole
    gain: OutputRole
    digitizer: InputRole
    arrival_meter: MeterRole | None = None
    maximum_arriving_power_w: Positive | None = None
    local_oscillator: LocalOscillatorRole | None = None
    constants: ClientConstants

    @property
    def receiver_constants(self) -> ClientConstants:
        """The constants, with the efficiency that each quadrature of the receiver has."""
        if self.local_oscillator is None:
            return self.constants
        half = self.constants.efficiency / 2.0
        return self.constants.model_copy(update={"efficiency": half})


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


class _Absent:
    """Replaces a table that is not in a station file: any access raises an error that says so."""

    def __init__(self, table: str) -> None:
        self._table = table

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise StationFileError(
            f"the station file has no [{self._table}] table, which this experiment needs"
        )


class WatchLimit(LimitTable):
    """Lowest and highest value of a reading, or of `ratio` times that: a tap sees a share."""

    ratio: Positive = 1.0


class WatchTable(_Table):
    """Readings that are taken every `every_s` (s) and stop all emission when they are beyond.

    `limits`: by what is read, as "monitor.power_w", "meter/2.power_w". `blind_s`: how long one may
    remain unread, in s, before that stops emission too.
    """

    every_s: Positive = 0.5
    blind_s: Positive = 10.0
    limits: dict[str, WatchLimit] = {}


class WatchdogTable(_Table):
    """The process that takes the station to safe when the program dies or freezes.

    `enabled`: a station that emits has one unless this is false. `frozen_after_s`: how long the
    program's main thread may stay in one call without any bench work, in s; `computing_s`: the same
    while it computes there.
    """

    enabled: bool = True
    frozen_after_s: Annotated[float, Field(ge=1.0)] = FROZEN_AFTER_S
    computing_s: Annotated[float, Field(ge=1.0)] = COMPUTING_S


class StationFile(_Table):
    """A whole station file; `name` is the file's own unless given.

    `library` is the VISA library: "" for the system's, "@py", or "FILE@labctl" for a simulated
    bench, FILE being relative to the station file. `record`: a file in the station file's folder,
    to which all messages with the instruments are written; if it is one already, the next free of
    FILE-2, FILE-3 and so on. `frame`, `server` and `client` are the tables of an experiment; asking
    one that is not in the file for anything raises StationFileError.
    """

    name: str = ""
    library: Library = ""
    record: Annotated[str, Field(min_length=1)] | None = None
    watchdog: WatchdogTable = WatchdogTable()
    watch: WatchTable | None = None
    instruments: Annotated[
        dict[Annotated[str, Field(min_length=1)], InstrumentTable], Field(min_length=1)
    ]
    frame: FrameTable = Field(default_factory=lambda: cast("FrameTable", _Absent("frame")))
    server: ServerRoles = Field(default_factory=lambda: cast("ServerRoles", _Absent("server")))
    client: ClientRoles = Field(default_factory=lambda: cast("ClientRoles", _Absent("client")))

    def roles(self) -> Iterator[tuple[str, str]]:
        """Yield each role with the instrument that plays it."""
        for role, instrument, _ in self.references():
            yield role, instrument

    def references(self) -> Iterator[tuple[str, str, int | None]]:
        """Yield each role with its instrument, and the channel if that is to play it alone."""
        for role, value in self._played():
            if isinstance(value, InputRole | PairRole):
                yield role, value.instrument, None
            else:
                yield role, value.instrument, value.channel

    def channels(self) -> Iterator[tuple[str, str, str, int | None]]:
        """Yield each role with the key, the instrument and the number of each channel it uses."""
        for role, value in self._played():
            if isinstance(value, PairRole):
                yield role, "i_channel", value.instrument, value.i_channel
                yield role, "q_channel", value.instrument, value.q_channel
            else:
                yield role, "channel", value.instrument, value.channel

    def _played(self) -> Iterator[tuple[str, OutputRole | InputRole | PairRole]]:
        """Yield each role of the tables that are there with what plays it."""
        for party, table in (("server", self.server), ("client", self.client)):
            if party not in self.model_fields_set:
                continue
            for role in type(table).model_fields:
                value = getattr(table, role)
                if isinstance(value, str):
                    instrument, channel = split_reference(value)
                    value = OutputRole(instrument=instrument, channel=channel)
                if isinstance(value, OutputRole | InputRole | PairRole):
                    yield f"{party}.{role}", value


def read_station_file(path: Path) -> StationFile:
    """Read and check a station file; raises StationFileError naming file, line and what is valid.

    Beyond types and keys: each role's instrument exists, no two names have one address,
    limits limit something and are ordered.
    """
    station = read_toml(path, StationFile)
    if station.record is not None:
        _record_here(station.record, path)
    if not station.name:
        station = station.model_copy(update={"name": path.stem})
    for role, instrument in station.roles():
        if instrument not in station.instruments:
            known = ", ".join(station.instruments)
            where = place(path, *role.split("."))
            raise StationFileError(
                f"{where}: role {role} names instrument {instrument!r}; there are: {known}"
            )
    addresses: dict[tuple[str, str], str] = {}
    for name, table in station.instruments.items():
        if "/" in name:
            where = place(path, "instruments", name)
            raise StationFileError(f"{where}: {name!r}: a / in a name comes before a channel")
        one = library_of(station, path, name), canonical(table.address)
        if one in addresses:
            where = place(path, "instruments", name, "address")
            other = station.instruments[addresses[one]].address
            spelt = "" if other == table.address else f", which is {other!r} in other words"
            raise StationFileError(
                f"{where}: {name!r} and {addresses[one]!r} share address {table.address!r}{spelt}"
            )
        addresses[one] = name
        for quantity, limit in table.limits.items():
            _check_limit(path, name, quantity, limit)
    return station


def as_line(station: StationFile) -> str:
    """Return what a station file says as one line of JSON; `from_line` reads it."""
    return json.dumps(station.model_dump(mode="json", exclude_unset=True))


def from_line(line: str | bytes) -> StationFile:
    """Return the station file that `as_line` wrote."""
    return StationFile.model_validate_json(line)


def _check_limit(path: Path, name: str, quantity: str, limit: LimitTable) -> None:
    where = place(path, "instruments", name, "limits", quantity)
    if not limit.low <= limit.high:
        raise StationFileError(
            f"{where}: {name}.limits.{quantity}: expected low not above high, got low "
            f"{limit.low} and high {limit.high}"
        )
    if limit.low == -math.inf and limit.high == math.inf:
        raise StationFileError(f"{where}: {name}.limits.{quantity}: expected low, high or both")


def split_watched(key: str) -> tuple[str, int | None, str]:
    """Return instrument, channel and quantity of "meter/2.power_w"; raises ValueError."""
    reference, dot, quantity = key.rpartition(".")
    if not dot or not quantity.isidentifier():
        raise ValueError(f"expected a reading as 'monitor.power_w', got {key!r}")
    return *split_reference(reference), quantity


def library_of(station: StationFile, path: Path, instrument: str | None = None) -> str:
    """Return the VISA library string of the station, or of one of its instruments.

    A bench file in it is made absolute.
    """
    own = None if instrument is None else station.instruments[instrument].library
    library = station.library if own is None else own
    if not library.endswith(SIMULATED) or library == SIMULATED:
        return library
    bench = library.removesuffix(SIMULATED)
    return f"{(path.parent / bench).resolve()}{SIMULATED}"


def transport_of(station: StationFile, path: Path, instrument: str) -> str:
    """Return what an instrument's messages travel on, which others may have to wait for.

    Instruments of one simulated bench share it, as do those on one GPIB board; all others have a
    separate wire.
    """
    library = library_of(station, path, instrument)
    if library.endswith(SIMULATED):
        return library
    address = canonical(station.instruments[instrument].address)
    return address.split("::")[0] if address.startswith("GPIB") else address


def record_of(station: StationFile, path: Path) -> Path | None:
    """Return the file that a station's next wire record goes to, None if it keeps none.

    Raises StationFileError where the file is there and is no wire record.
    """
    if station.record is None:
        return None
    wanted = free = _record_here(station.record, path)
    if wanted.is_file():
        try:
            require_record(wanted)
        except RunFileError as error:
            raise StationFileError(f"{place(path, 'record')}: record: {error}") from error
    number = 1
    while free.exists():
        number += 1
        free = wanted.with_stem(f"{wanted.stem}-{number}")
    return free


def _record_here(record: str, path: Path) -> Path:
    """Return where a record goes; raises StationFileError outside the station file's folder."""
    folder = path.parent.resolve()
    wanted = (folder / record).resolve()
    if folder not in wanted.parents:
        raise StationFileError(
            f"{place(path, 'record')}: record: expected a file in the station file's folder, got "
            f"{record!r}"
        )
    return wanted
