"""Front panels on a bench: each table of a bench file becomes an instrument wired to the optics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from labctl.errors import SettingError
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.bench_wiring import MONITOR
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.own_panels import InstrumentTable, find
from labctl.instruments.simulated.panel import FrontPanel
from labctl.instruments.simulated.panel_tables import (
    BUILT_IN,
    BiasTable,
    GeneratorTable,
    ItlaTable,
    MultiportMeterTable,
    OscilloscopeTable,
    PanelTable,
    PowerMeterTable,
    ProbeAttenuatorTable,
    RedPitayaTable,
    SourceMeterTable,
    SupplyTable,
    SweptLaserTable,
    VoltageArrayTable,
)
from labctl.instruments.simulated.panels.itla import ITLAPanel
from labctl.instruments.simulated.panels.keithley_2450 import Keithley2450Panel
from labctl.instruments.simulated.panels.keysight_33500 import Keysight33500Panel
from labctl.instruments.simulated.panels.keysight_e36312a import KeysightE36312APanel
from labctl.instruments.simulated.panels.keysight_infiniivision import InfiniiVisionPanel
from labctl.instruments.simulated.panels.keysight_n7744a import KeysightN7744APanel
from labctl.instruments.simulated.panels.keysight_n7776c import KeysightN7776CPanel
from labctl.instruments.simulated.panels.oz_optics_dd100 import OzOpticsDD100Panel
from labctl.instruments.simulated.panels.qontrol_q8iv import QontrolQ8ivPanel
from labctl.instruments.simulated.panels.red_pitaya import RedPitayaPanel
from labctl.instruments.simulated.panels.santec_tsl570 import SantecTSL570Panel
from labctl.instruments.simulated.panels.thorlabs_mx10b import ThorlabsMX10BPanel
from labctl.instruments.simulated.panels.thorlabs_pm100d import ThorlabsPM100DPanel
from labctl.instruments.simulated.physics.detection import PowerHead, SensorParameters
from labctl.instruments.simulated.physics.drive import DriveOutput
from labctl.instruments.simulated.physics.grid import Seeds
from labctl.instruments.simulated.physics.laser import Laser, LaserParameters
from labctl.instruments.simulated.physics.modulator import BiasElectrode
from labctl.instruments.simulated.physics.path import VariableAttenuator
from labctl.instruments.simulated.physics.probe import ProbeLine
from labctl.instruments.simulated.physics.source import LoadParameters, SourceOutput
from labctl.instruments.simulated.ports import (
    AttenuatorPort,
    DigitizerPort,
    DrivePort,
    LaserPort,
    PowerSensorPort,
    SourcePort,
    TriggerPort,
)
from labctl.units import wavelength_to_frequency_hz

# What the models of these panels have.
_SCOPE_CHANNELS = 2
_SUPPLY_OUTPUTS = (1, 2, 3)
_ARRAY_OUTPUTS = range(8)
_METER_INPUTS = (1, 2, 3, 4)
# Of an output with nothing connected: its insulation.
_LEAKAGE_OHM = 1e8


class PanelBuilder:
    """Wires panels to one bench; probe lines and loads are shared by name."""

    def __init__(
        self,
        table: BenchFile,
        bench: LinkBench,
        drives: Mapping[str, DriveOutput],
        seeds: Seeds,
        heads: Mapping[str, SensorParameters] | None = None,
    ) -> None:
        """`heads` are those on the link's taps."""
        self._bench, self._drives, self._seeds = bench, drives, seeds
        self._head, self._tap_heads = bench.optics.sensor, heads or {}
        self._probes = {
            name: ProbeLine(
                Laser(
                    LaserParameters(probe.linewidth_hz, probe.rin_db_hz),
                    bench.grid_hz,
                    seeds.noise(f"probe {name}"),
                ),
                probe.insertion_loss_db,
            )
            for name, probe in table.probes.items()
        }
        self._loads: dict[str, SourceOutput] = {}
        for name, load in table.loads.items():
            parameters = LoadParameters(load.resistance_ohm, load.noise_v)
            self._loads[name] = SourceOutput(parameters, seeds.noise(f"load {name}"))
            if load.electrode is not None:
                electrode: BiasElectrode = getattr(bench.optics.modulator, load.electrode)
                electrode.external = self._loads[name].held_v

    def add(self, name: str, table: PanelTable | InstrumentTable) -> None:
        """Put one instrument of a checked file on the bench."""
        self._bench.panels[table.address] = self._panel(name, table)
        self._bench.names[table.address] = (name, table.type)

    @property
    def clock(self) -> BenchClock:
        """The bench's time."""
        return self._bench.clock

    @property
    def trigger(self) -> TriggerPort:
        """The trigger cable."""
        return self._bench.trigger

    def load(self, name: str) -> SourcePort:
        """Return an output with a load on it; see `BenchParts`, also for what follows."""
        return self._loads[name]

    def laser(self, name: str) -> LaserPort:
        """Return the laser of a probe line."""
        return self._probes[name].laser

    def attenuator(self, name: str) -> AttenuatorPort:
        """Return the attenuator of a probe line."""
        return self._probes[name].attenuator

    def input(self, panel: str, name: str) -> PowerSensorPort:
        """Return a new power head of a panel on a probe line, the monitor or a tap."""
        return self._input(panel, 1, name)

    def drive(self, name: str) -> DrivePort:
        """Return one of the electrical inputs of the link's optics."""
        return self._drives[name]

    def digitizer(self, receiver: Literal["client", "server"]) -> DigitizerPort:
        """Return a new digitizer at a receiver's outputs."""
        return self._bench.digitizer_at(receiver)

    def _panel(self, name: str, table: PanelTable | InstrumentTable) -> FrontPanel:
        match table:
            case ItlaTable() | GeneratorTable() | BiasTable() | OscilloscopeTable():
                return self._of_the_link(name, table)
            case SweptLaserTable() | ProbeAttenuatorTable() | PowerMeterTable():
                return self._optical(name, table)
            case MultiportMeterTable():
                wired = {int(number): line for number, line in table.inputs.items()}
                heads = {n: self._input(name, n, wired.get(n)) for n in _METER_INPUTS}
                return KeysightN7744APanel(name, self._bench.clock, heads, self._bench.trigger)
            case VoltageArrayTable() | SourceMeterTable() | SupplyTable():
                return self._electrical(name, table)
            case RedPitayaTable():
                outputs: dict[int, DrivePort] = {
                    int(output): self._drives[drive] for output, drive in table.outputs.items()
                }
                digitizer = self._bench.digitizer_at(table.receiver)
                return RedPitayaPanel(name, self._bench.clock, digitizer, outputs)
            case _:
                kind = find(table.type)
                if kind is None:
                    raise SettingError("panel", table.type, f"one of {', '.join(sorted(BUILT_IN))}")
                return kind.on_bench(name, table, self)

    def _of_the_link(
        self, name: str, table: ItlaTable | GeneratorTable | BiasTable | OscilloscopeTable
    ) -> FrontPanel:
        bench, optics = self._bench, self._bench.optics
        match table:
            case ItlaTable():
                head = optics.laser if table.laser == "link" else optics.client_laser
                assert head is not None  # `check_wiring` refuses a panel without its laser
                return ITLAPanel(
                    name, bench.clock, head, serial=table.serial, turn_on_s=table.turn_on_s
                )
            case GeneratorTable():
                return Keysight33500Panel(
                    name,
                    bench.clock,
                    {int(output): self._drives[drive] for output, drive in table.outputs.items()},
                    bench.trigger if table.trigger == "sends" else None,
                    bench.trigger if table.trigger == "receives" else None,
                    serial=table.serial,
                    memory_samples=table.memory_samples,
                    max_sample_rate_hz=table.max_sample_rate_hz,
                )
            case BiasTable():
                return self._modulator_box(name, table)
            case OscilloscopeTable():
                return InfiniiVisionPanel(
                    name,
                    bench.clock,
                    bench.digitizer_at(table.receiver),
                    _SCOPE_CHANNELS,
                    identity=f"KEYSIGHT TECHNOLOGIES,DSO-X 3102T,{table.serial},07.50.2021102830",
                    max_sample_rate_hz=table.max_sample_rate_hz,
                    memory_samples=table.memory_samples,
                )

    def _modulator_box(self, name: str, table: BiasTable) -> FrontPanel:
        bench, optics = self._bench, self._bench.optics
        electrode: BiasElectrode = getattr(optics.modulator, table.bias)
        electrode.tap = bench.tapped_power_w
        # The box has its own laser and attenuator; what the bench does not use of them
        # is there, with nothing connected.
        attenuator = optics.attenuator if table.attenuator else VariableAttenuator(0.7, _dark)
        built_in = LaserParameters(linewidth_hz=1e6, rin_db_hz=-145.0)
        laser = Laser(built_in, bench.grid_hz, self._seeds.noise(f"laser {name}"))
        return ThorlabsMX10BPanel(
            name, bench.clock, laser, electrode, attenuator, ack=table.ack, serial=table.serial
        )

    def _optical(
        self, name: str, table: SweptLaserTable | ProbeAttenuatorTable | PowerMeterTable
    ) -> FrontPanel:
        clock = self._bench.clock
        match table:
            case SweptLaserTable(type="keysight_n7776c"):
                return KeysightN7776CPanel(name, clock, self._probes[table.probe].laser)
            case SweptLaserTable():
                return SantecTSL570Panel(name, clock, self._probes[table.probe].laser)
            case ProbeAttenuatorTable():
                return OzOpticsDD100Panel(name, clock, self._probes[table.probe].attenuator)
            case PowerMeterTable():
                return ThorlabsPM100DPanel(name, clock, self._monitor(f"sensor {name}"))

    def _electrical(
        self, name: str, table: VoltageArrayTable | SourceMeterTable | SupplyTable
    ) -> FrontPanel:
        clock = self._bench.clock
        if isinstance(table, SourceMeterTable):
            return Keithley2450Panel(name, clock, self._loads[table.output])
        supply = isinstance(table, SupplyTable)
        wired = {int(number): load for number, load in table.outputs.items()}
        outputs: dict[int, SourcePort] = {
            number: self._loads[wired[number]] if number in wired else self._open(name, number)
            for number in (_SUPPLY_OUTPUTS if supply else _ARRAY_OUTPUTS)
        }
        if supply:
            return KeysightE36312APanel(name, clock, outputs)
        return QontrolQ8ivPanel(name, clock, outputs)

    def _open(self, name: str, number: int) -> SourceOutput:
        """Return an output with nothing on it but its own leakage."""
        noise = self._seeds.noise(f"open {name} {number}")
        return SourceOutput(LoadParameters(_LEAKAGE_OHM, noise_v=100e-6), noise)

    def _input(self, name: str, number: int, line: str | None) -> PowerSensorPort:
        stream = f"input {name} {number}"
        if line == MONITOR:
            return self._monitor(stream)
        noise = self._seeds.noise(stream)
        if line is None:
            return PowerHead(_dark, _rated_frequency_hz, self._head, noise)
        if line in self._tap_heads:
            return self._bench.tap_head(line, self._tap_heads[line], noise)
        probe = self._probes[line]
        return PowerHead(probe.power_w, probe.frequency_hz, self._head, noise)

    def _monitor(self, stream: str) -> PowerHead:
        return self._bench.monitor_head(self._seeds.noise(stream))


def _dark() -> float:
    return 0.0


def _rated_frequency_hz() -> float:
    return wavelength_to_frequency_hz(1550e-9)
