"""The instruments of a bench file: which panel, at which address, wired to what."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator

from labctl.instruments.simulated.own_panels import InstrumentTable, Wire, table_of

Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]

DriveName = Literal[
    "spare_1",
    "spare_2",
    "modulator_i",
    "modulator_q",
    "rotation_real",
    "rotation_imaginary",
    "client_lo_phase",
    "client_gain",
    "server_lo_phase",
    "server_shutter",
]


class ItlaTable(InstrumentTable):
    """An ITLA laser module: the link's laser, or the client's own local oscillator."""

    type: Literal["itla"]
    address: str
    laser: Literal["link", "client"] = "link"
    serial: str = "CRTN0001"
    turn_on_s: NotNegative = 2.0


class GeneratorTable(InstrumentTable):
    """A 33500-series generator: which outputs go where, and its trigger connector."""

    type: Literal["keysight_33500"]
    address: str
    serial: str = "MY00000001"
    outputs: dict[Literal["1", "2"], DriveName]
    trigger: Literal["sends", "receives", "none"] = "none"
    memory_samples: Annotated[int, Field(ge=8)] = 16_000_000
    max_sample_rate_hz: Positive = 160e6

    def wires(self) -> tuple[Wire, ...]:
        """Return a connection for each output in use."""
        return tuple(Wire("drive", name, ("outputs", key)) for key, name in self.outputs.items())


class BiasTable(InstrumentTable):
    """An MX10B: the modulator electrode it biases, and whether the light passes its attenuator."""

    type: Literal["thorlabs_mx10b"]
    address: str
    bias: Literal["child_i", "child_q", "parent"]
    attenuator: bool = False
    ack: Literal["manual", "pymeasure"] = "manual"
    serial: str = "T00123456"


class OscilloscopeTable(InstrumentTable):
    """An InfiniiVision oscilloscope at a receiver, on the trigger cable."""

    type: Literal["keysight_infiniivision"]
    address: str
    serial: str = "MY57452230"
    receiver: Literal["client", "server"]
    max_sample_rate_hz: Positive = 160e6
    memory_samples: Annotated[int, Field(ge=1000)] = 4_000_000


class PowerMeterTable(InstrumentTable):
    """A PM100D with its head on the monitor tap."""

    type: Literal["thorlabs_pm100d"]
    address: str


class SweptLaserTable(InstrumentTable):
    """An N7776C or a TSL-570 that lights a probe line."""

    type: Literal["keysight_n7776c", "santec_tsl570"]
    address: str
    probe: str

    def wires(self) -> tuple[Wire, ...]:
        """Return the one connection."""
        return (Wire("laser", self.probe, ("probe",)),)


class ProbeAttenuatorTable(InstrumentTable):
    """A DD-100 in a probe line."""

    type: Literal["oz_optics_dd100"]
    address: str
    probe: str

    def wires(self) -> tuple[Wire, ...]:
        """Return the one connection."""
        return (Wire("attenuator", self.probe, ("probe",)),)


class MultiportMeterTable(InstrumentTable):
    """An N7744A; each input is at a probe line or on a tap of the link.

    Taps are "monitor", and those that the file has of "launch" (what enters the forward fibre),
    "arrival" (what reaches the client) and "return" (what reaches the server, before its shutter).
    """

    type: Literal["keysight_n7744a"]
    address: str
    inputs: dict[Literal["1", "2", "3", "4"], str]

    def wires(self) -> tuple[Wire, ...]:
        """Return a connection for each input in use."""
        return tuple(Wire("input", name, ("inputs", key)) for key, name in self.inputs.items())


class VoltageArrayTable(InstrumentTable):
    """A Q8iv with a load on each output in use; outputs count from 0."""

    type: Literal["qontrol_q8iv"]
    address: str
    outputs: dict[Literal["0", "1", "2", "3", "4", "5", "6", "7"], str]

    def wires(self) -> tuple[Wire, ...]:
        """Return a connection for each output in use."""
        return tuple(Wire("load", name, ("outputs", key)) for key, name in self.outputs.items())


class SourceMeterTable(InstrumentTable):
    """A 2450 with a load."""

    type: Literal["keithley_2450"]
    address: str
    output: str

    def wires(self) -> tuple[Wire, ...]:
        """Return the one connection."""
        return (Wire("load", self.output, ("output",)),)


class SupplyTable(InstrumentTable):
    """An E36312A with a load on each output in use."""

    type: Literal["keysight_e36312a"]
    address: str
    outputs: dict[Literal["1", "2", "3"], str]

    def wires(self) -> tuple[Wire, ...]:
        """Return a connection for each output in use."""
        return tuple(Wire("load", name, ("outputs", key)) for key, name in self.outputs.items())


class RedPitayaTable(InstrumentTable):
    """A STEMlab 125-14: its first input at a receiver, outputs where a generator's could be."""

    type: Literal["red_pitaya"]
    address: str
    receiver: Literal["client", "server"]
    outputs: dict[Literal["1", "2"], DriveName] = Field(default_factory=dict)

    def wires(self) -> tuple[Wire, ...]:
        """Return a connection for each output in use."""
        return tuple(Wire("drive", name, ("outputs", key)) for key, name in self.outputs.items())


BuiltInTable = Annotated[
    ItlaTable
    | GeneratorTable
    | BiasTable
    | OscilloscopeTable
    | PowerMeterTable
    | SweptLaserTable
    | ProbeAttenuatorTable
    | MultiportMeterTable
    | VoltageArrayTable
    | SourceMeterTable
    | SupplyTable
    | RedPitayaTable,
    Field(discriminator="type"),
]


BUILT_IN: frozenset[str] = frozenset(
    name
    for table in get_args(get_args(BuiltInTable)[0])
    for name in get_args(table.model_fields["type"].annotation)
)
"""The types of panel that are here; one of the same name elsewhere is not looked for."""


def _of_any_package(value: Any, handler: ValidatorFunctionWrapHandler) -> InstrumentTable:
    """Read the table of a panel that is here, or of one in another package."""
    own = table_of(value, but=BUILT_IN)
    if own is not None:
        return own
    built_in: InstrumentTable = handler(value)
    return built_in


PanelTable = Annotated[BuiltInTable, WrapValidator(_of_any_package)]
