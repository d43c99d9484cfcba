"""What each party works with: capabilities in roles, and what is known of the hardware."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NoReturn, TypeVar, cast

import numpy as np
import numpy.typing as npt

from labctl.clock import Clock
from labctl.errors import LimitError, StationFileError
from labctl.instruments.capabilities import (
    Attenuator,
    Digitizer,
    ModulatorBias,
    PowerMeter,
    TriggerSource,
    TunableLaser,
    VoltageSource,
    WaveformGenerator,
)
from labctl.instruments.transports.opening import open_clock
from labctl.station.arriving import CLIENT, KEY, ArrivingLimit, arriving_within
from labctl.station.check import can_serve
from labctl.station.file import (
    SIMULATED,
    ClientConstants,
    FrameTable,
    ServerConstants,
    library_of,
)
from labctl.station.references import MeterRole, OutputRole, PairRole
from labctl.station.station import Station
from labctl.toml_file import place
from labctl.units import dbm_to_w, wavelength_to_frequency_hz

Capability = TypeVar("Capability")


@dataclass(frozen=True)
class FibreMeter:
    """A power-meter input that sees a known share of what is in a fibre.

    `ratio`: power in the fibre over power at the input, `ratio_uncertainty` relative.
    """

    input: PowerMeter
    ratio: float
    ratio_uncertainty: float

    def fibre_power_w(self) -> float:
        """Return the power in the fibre in W."""
        return self.input.power_w() * self.ratio


@dataclass(frozen=True)
class LimitedVoltage:
    """A voltage output of a station, which keeps it within the limits of its file."""

    source: VoltageSource

    def set(self, voltage_v: float) -> None:
        """Apply a voltage in V; raises LimitError outside the station's limits."""
        self.source.set_voltage(voltage_v)


@dataclass(frozen=True)
class IQDrive:
    """Two generator channels that play the parts of a complex waveform."""

    generator: WaveformGenerator
    i_channel: int
    q_channel: int
    station: Station
    instrument: str

    @property
    def channels(self) -> tuple[int, int]:
        """Both channels."""
        return self.i_channel, self.q_channel

    def amplitude_v(self, amplitude_v: float) -> float:
        """Return the amplitude if the station's limits allow it; raises LimitError."""
        return self.station.check(self.instrument, "amplitude_v", amplitude_v)

    def play_in_cycles(
        self,
        name: str,
        levels: Sequence[npt.NDArray[np.float32]],
        *,
        sample_rate_hz: float,
        cycles: int,
        delay_s: float,
    ) -> None:
        """Play both parts once a cycle from `delay_s` after each external trigger on.

        `levels`: samples of the I and of the Q channel, of the largest amplitude 1 V. What the
        generator held is forgotten. Raises LimitError.
        """
        for channel, samples in zip(self.channels, levels, strict=True):
            self.generator.forget(channel)
            self.generator.upload(channel, name, samples)
            self.generator.play(
                channel,
                name,
                sample_rate_hz=sample_rate_hz,
                amplitude_v=self.amplitude_v(1.0),
                offset_v=0.0,
            )
            self.generator.burst(
                channel, cycles=cycles, trigger=TriggerSource.EXTERNAL, delay_s=delay_s
            )
            self.generator.set_output(channel, True)


@dataclass(frozen=True)
class ClientLaser:
    """A laser of the client's own as local oscillator, and what is known of it and of the signal.

    `signal_frequency_hz`: where the signal is said to be; this laser is to be `beat_hz` above.
    """

    laser: TunableLaser
    power_w: float
    signal_frequency_hz: float
    beat_hz: float
    highest_beat_hz: float
    linewidth_hz: float
    signal_linewidth_hz: float


@dataclass(frozen=True)
class ServerEquipment:
    """The server's bench."""

    laser: TunableLaser
    laser_power_w: float
    laser_frequency_hz: float
    drive: IQDrive
    bias_i: ModulatorBias
    bias_q: ModulatorBias
    bias_parent: ModulatorBias
    attenuator: Attenuator
    monitor: PowerMeter
    lo_phase: LimitedVoltage
    shutter: LimitedVoltage
    digitizer: Digitizer
    channel: int
    launch_meter: FibreMeter | None
    return_meter: FibreMeter | None
    constants: ServerConstants


@dataclass(frozen=True)
class ClientEquipment:
    """The client's bench.

    `arriving`: the most light that may come, None where none is stated. `local_oscillator`: None
    where the server's light is. `constants`: see `ClientRoles.receiver_constants`.
    """

    rotation: IQDrive
    lo_phase: LimitedVoltage
    gain: LimitedVoltage
    digitizer: Digitizer
    channel: int
    arrival_meter: FibreMeter | None
    constants: ClientConstants
    arriving: ArrivingLimit | None = None
    local_oscillator: ClientLaser | None = None


ROLES: dict[str, type] = {
    "server.laser": TunableLaser,
    "server.drive": WaveformGenerator,
    "server.bias_i": ModulatorBias,
    "server.bias_q": ModulatorBias,
    "server.bias_parent": ModulatorBias,
    "server.attenuator": Attenuator,
    "server.monitor": PowerMeter,
    "server.lo_phase": VoltageSource,
    "server.shutter": VoltageSource,
    "server.digitizer": Digitizer,
    "server.launch_meter": PowerMeter,
    "server.return_meter": PowerMeter,
    "client.rotation": WaveformGenerator,
    "client.lo_phase": VoltageSource,
    "client.gain": VoltageSource,
    "client.digitizer": Digitizer,
    "client.arrival_meter": PowerMeter,
    "client.local_oscillator": TunableLaser,
}
"""The capability that each role needs of its instrument, or of the channel that it names."""


@dataclass(frozen=True)
class Equipment:
    """Both benches, the timing that the parties agree on, and the instruments' time.

    `names`: the instrument of each role, for messages. `client`: in the server's site alone any use
    of it raises StationFileError; see `has_client`.
    """

    server: ServerEquipment
    client: ClientEquipment
    frame: FrameTable
    clock: Clock
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_client(self) -> bool:
        """Whether the client's half is here too."""
        return not isinstance(self.client, _Elsewhere)

    def parts(self) -> dict[str, object]:
        """Return what plays each role, by the role's name."""
        found: dict[str, object] = {}
        halves: list[tuple[str, ServerEquipment | ClientEquipment]] = [("server", self.server)]
        if self.has_client:
            halves.append(("client", self.client))
        for party, table in halves:
            for each in fields(table):
                part = getattr(table, each.name)
                if isinstance(part, IQDrive):
                    part = part.generator
                elif isinstance(part, LimitedVoltage):
                    part = part.source
                elif isinstance(part, FibreMeter):
                    part = part.input
                elif isinstance(part, ClientLaser):
                    part = part.laser
                if f"{party}.{each.name}" in ROLES and part is not None:
                    found[f"{party}.{each.name}"] = part
        return found


def equipment_of(station: Station) -> Equipment:
    """Return an opened station's instruments by role.

    Raises StationFileError when an instrument lacks the capability of its role or the file has no
    roles, LimitError when the laser's power is outside the station's limits.
    """
    require_roles(station)
    return Equipment(
        server=server_equipment_of(station),
        client=client_equipment_of(station),
        frame=station.table.frame,
        clock=clock_of(station),
        names=dict(station.table.roles()),
    )


class _Elsewhere:
    """The client's half of a bench at another site: each use of it is refused by name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getattr__(self, role: str) -> NoReturn:
        raise StationFileError(f"{self._path}: no [client]: client.{role} is at the client's site")


def server_site_of(station: Station) -> Equipment:
    """Return the instruments of a station that has the server's roles; raises as `equipment_of`."""
    require_roles(station, ("server",))
    return Equipment(
        server=server_equipment_of(station),
        client=cast(ClientEquipment, _Elsewhere(station.path)),
        frame=station.table.frame,
        clock=clock_of(station),
        names=dict(station.table.roles()),
    )


def server_equipment_of(station: Station) -> ServerEquipment:
    """Return the instruments of the server's roles; raises as `equipment_of`."""
    require_roles(station, ("server",))
    server = station.table.server
    power_w = station.check(server.laser, "power_w", dbm_to_w(server.laser_power_dbm))
    frequency_hz = wavelength_to_frequency_hz(server.laser_wavelength_nm * 1e-9)
    return ServerEquipment(
        laser=station.instrument(server.laser, TunableLaser),
        laser_power_w=power_w,
        laser_frequency_hz=station.check(server.laser, "frequency_hz", frequency_hz),
        drive=_pair(station, server.drive),
        bias_i=station.instrument(server.bias_i, ModulatorBias),
        bias_q=station.instrument(server.bias_q, ModulatorBias),
        bias_parent=station.instrument(server.bias_parent, ModulatorBias),
        attenuator=station.instrument(server.attenuator, Attenuator),
        monitor=station.instrument(server.monitor, PowerMeter),
        lo_phase=_voltage(station, server.lo_phase),
        shutter=_voltage(station, server.shutter),
        digitizer=station.instrument(server.digitizer.instrument, Digitizer),
        channel=server.digitizer.channel,
        launch_meter=_meter(station, server.launch_meter),
        return_meter=_meter(station, server.return_meter),
        constants=server.constants,
    )


def client_equipment_of(station: Station) -> ClientEquipment:
    """Return the instruments of the client's roles; raises StationFileError."""
    require_roles(station, ("client",))
    client = station.table.client
    return ClientEquipment(
        rotation=_pair(station, client.rotation),
        lo_phase=_voltage(station, client.lo_phase),
        gain=_voltage(station, client.gain),
        digitizer=station.instrument(client.digitizer.instrument, Digitizer),
        channel=client.digitizer.channel,
        arrival_meter=_meter(station, client.arrival_meter),
        constants=client.receiver_constants,
        arriving=_arriving(station),
        local_oscillator=_own_laser(station),
    )


def _own_laser(station: Station) -> ClientLaser | None:
    role = station.table.client.local_oscillator
    if role is None:
        return None
    signal_hz = wavelength_to_frequency_hz(role.wavelength_nm * 1e-9)
    station.check(role.instrument, "frequency_hz", signal_hz + role.beat_hz)
    return ClientLaser(
        laser=station.instrument(role.reference, TunableLaser),
        power_w=station.check(role.instrument, "power_w", dbm_to_w(role.power_dbm)),
        signal_frequency_hz=signal_hz,
        beat_hz=role.beat_hz,
        highest_beat_hz=role.highest_beat_hz,
        linewidth_hz=role.linewidth_hz,
        signal_linewidth_hz=role.signal_linewidth_hz,
    )


def _arriving(station: Station) -> ArrivingLimit | None:
    maximum_w = station.table.client.maximum_arriving_power_w
    if maximum_w is None:
        return None
    allowed = arriving_within(maximum_w, place(station.path, CLIENT, KEY))
    return ArrivingLimit(allowed, station.stop_emission)


def clock_of(station: Station) -> Clock:
    """Return the time that the instruments of the station's roles go by."""
    return open_clock(_library(station), station.record)


def require_roles(station: Station, parties: Sequence[str] = ("server", "client")) -> None:
    """Raise StationFileError unless the file gives every role to an instrument that can play it.

    `parties`: whose roles have to be there; those of the other are looked at if they are. Nothing
    needs to be open. All faults are named, a line each.
    """
    table, path = station.table, station.path
    absent = [name for name in ("frame", *parties) if name not in table.model_fields_set]
    if absent:
        missing = " and ".join(f"[{name}]" for name in absent)
        raise StationFileError(f"{path}: no {missing}: this experiment needs the roles in it")
    faults = []
    for role, name, channel in table.references():
        wanted = ROLES[role]
        if not can_serve(station.driver(name), channel, wanted):
            driver = table.instruments[name].driver
            which = name if channel is None else f"{name}/{channel}"
            faults.append(
                f"{place(path, *role.split('.'))}: role {role}: {which!r} ({driver}) "
                f"cannot serve as {wanted.__name__}"
            )
    faults += [
        *_shared_outputs(station),
        *_forbidden_light(station),
        *_forbidden_voltages(station),
    ]
    if faults:
        raise StationFileError("\n".join(faults))


def _shared_outputs(station: Station) -> Iterator[str]:
    """Yield the roles that set an output which another role sets too.

    A shutter that shares its output opens whenever the other role is set.
    """
    taken: dict[tuple[str, int], str] = {}
    for role, name, channel in _outputs(station):
        other = taken.setdefault((name, 1 if channel is None else channel), role)
        if other != role:
            where = place(station.path, *role.split(".")[:2])
            output = name if channel is None else f"{name}/{channel}"
            yield f"{where}: role {role}: {output!r} is the output of role {other} already"


def _outputs(station: Station) -> Iterator[tuple[str, str, int | None]]:
    """Yield what sets an output: role, instrument, channel; None is the only one."""
    for role, key, name, channel in station.table.channels():
        if ROLES[role] is WaveformGenerator:
            yield f"{role}.{key}", name, channel
        elif ROLES[role] in (VoltageSource, ModulatorBias):
            yield role, name, channel


def _forbidden_voltages(station: Station) -> Iterator[str]:
    """Yield the voltages that must always be had, and that limits of the same file forbid."""
    table = station.table
    for party, role, key in (
        ("server", "shutter", "shutter_closed_v"),
        ("client", "gain", "gain_off_v"),
    ):
        if party not in table.model_fields_set:
            continue
        roles = getattr(table, party)
        name, value_v = getattr(roles, role).instrument, getattr(roles.constants, key)
        try:
            station.check(name, "voltage_v", value_v)
        except LimitError as error:
            yield f"{place(station.path, party, 'constants', key)}: {error}"


def _forbidden_light(station: Station) -> Iterator[str]:
    """Yield what the role of a laser asks for beyond the limits of the same file."""
    for laser, keys, quantity, value in _asked_of_lasers(station):
        try:
            station.check(laser, quantity, value)
        except LimitError as refusal:
            yield f"{place(station.path, *keys)}: {refusal}"


def _asked_of_lasers(station: Station) -> Iterator[tuple[str, tuple[str, ...], str, float]]:
    """Yield what each role of a laser sets: instrument, key of the file, quantity, value."""
    if "server" in station.table.model_fields_set:
        server = station.table.server
        frequency_hz = wavelength_to_frequency_hz(server.laser_wavelength_nm * 1e-9)
        power_w = dbm_to_w(server.laser_power_dbm)
        yield server.laser, ("server", "laser_power_dbm"), "power_w", power_w
        yield server.laser, ("server", "laser_wavelength_nm"), "frequency_hz", frequency_hz
    given = station.table.model_fields_set
    own = station.table.client.local_oscillator if "client" in given else None
    if own is not None:
        keys = ("client", "local_oscillator")
        frequency_hz = wavelength_to_frequency_hz(own.wavelength_nm * 1e-9) + own.beat_hz
        yield own.instrument, (*keys, "power_dbm"), "power_w", dbm_to_w(own.power_dbm)
        yield own.instrument, (*keys, "wavelength_nm"), "frequency_hz", frequency_hz


def _library(station: Station) -> str:
    """Return the VISA library whose clock waits are by: the wall's if any instrument is real."""
    names = set(dict(station.table.roles()).values())
    libraries = sorted({library_of(station.table, station.path, name) for name in names})
    real = [library for library in libraries if not library.endswith(SIMULATED)]
    return (real or libraries)[0]


def _pair(station: Station, role: PairRole) -> IQDrive:
    generator = station.instrument(role.instrument, WaveformGenerator)
    return IQDrive(generator, role.i_channel, role.q_channel, station, role.instrument)


def _voltage(station: Station, role: OutputRole) -> LimitedVoltage:
    return LimitedVoltage(station.instrument(role.reference, VoltageSource))


def _meter(station: Station, role: MeterRole | None) -> FibreMeter | None:
    if role is None:
        return None
    meter = station.instrument(role.reference, PowerMeter)
    return FibreMeter(meter, role.ratio, role.ratio_uncertainty)
