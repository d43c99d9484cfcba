"""Faulty wires and light: what is planned happens, once and where it is said, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from labctl.clock import Clock
from labctl.data import shipped_bench_path
from labctl.errors import SettingError, StationFileError
from labctl.instruments.codecs.itla import Reply, Request
from labctl.instruments.simulated.bench_file import load_bench
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.faults.light import LIGHT_FAULTS, break_light
from labctl.instruments.simulated.faults.plan import (
    FaultPlan,
    FaultyBench,
    PlannedFault,
    read_plan,
)
from labctl.instruments.simulated.faults.wire import (
    FaultyPanel,
    WireFault,
    WireFaultKind,
    faulty,
)
from labctl.instruments.simulated.panel import ConnectionLostError, plugged_in
from labctl.instruments.simulated.physics.grid import Window

SERIAL = "ASRL1::INSTR"
MONITOR = "USB0::0x1313::0x8078::P0000001::INSTR"


class Echo:
    """Answers each line with itself."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.cleared = 0

    def write(self, data: bytes, *, end: bool) -> None:
        self.lines.append(data)

    def read(self, limit: int) -> tuple[bytes, bool]:
        if not self.lines:
            return b"", False
        line = self.lines.pop(0)
        return line, True

    def clear(self) -> None:
        self.cleared += 1
        self.lines.clear()

    def status_byte(self) -> int:
        return 0


def asked(
    *faults: WireFault, message: bytes = b"POW? 1.5E-3\n", clock: Clock | None = None
) -> list[bytes]:
    """Everything that is received at once of one answer."""
    panel = faulty(Echo(), clock or BenchClock())
    for fault in faults:
        panel.arm(fault)
    panel.write(message, end=False)
    return received(panel)


def received(panel: FaultyPanel) -> list[bytes]:
    found: list[bytes] = []
    while (reply := panel.read(1 << 20)[0]) and len(found) < 5:
        found.append(reply)
    return found


@pytest.mark.parametrize(
    ("kind", "value", "text", "expected"),
    [
        ("lost", 0.0, "", []),
        ("cut", 4.0, "", [b"POW?"]),
        ("cut number", 1.0, "", [b"POW? 1\n"]),
        ("doubled", 0.0, "", [b"POW? 1.5E-3\n", b"POW? 1.5E-3\n"]),
        ("stray terminator", 0.0, "", [b"\n", b"POW? 1.5E-3\n"]),
        ("unasked line", 0.0, "NO23", [b"NO23\n", b"POW? 1.5E-3\n"]),
        ("garbled", 0.0, "", [b"POW? \xff.5E-3\n"]),
        ("digit changed", 0.0, "", [b"POW? 9.5E-3\n"]),
        ("exponent changed", 0.0, "", [b"POW? 1.5E+09\n"]),
        ("underscore", 0.0, "", [b"POW? 1_.5E-3\n"]),
        ("empty", 0.0, "", [b"\n"]),
        ("said", 0.0, "NAN", [b"NAN\n"]),
        ("command lost", 0.0, "", []),
        ("command doubled", 0.0, "", [2 * b"POW? 1.5E-3\n"]),
        ("half-closed", 0.0, "", []),
    ],
)
def test_what_a_fault_does_to_an_answer(
    kind: WireFaultKind, value: float, text: str, expected: list[bytes]
) -> None:
    assert asked(WireFault(kind, "POW?", value=value, text=text)) == expected


def test_a_fault_waits_for_its_message_and_acts_as_often_as_it_is_to() -> None:
    panel = faulty(Echo(), BenchClock())
    panel.arm(WireFault("lost", "POW?", after=1, times=2))
    answers = []
    for message in (b"WAV?\n", b"POW?\n", b"POW?\n", b"WAV?\n", b"POW?\n", b"POW?\n"):
        panel.write(message, end=False)
        answers.append(bool(received(panel)))
    assert answers == [True, True, False, True, False, True]
    assert panel.hits() == 2


def test_a_late_answer_comes_when_it_is_due_by_the_bench_s_clock() -> None:
    clock = BenchClock()
    panel = faulty(Echo(), clock)
    panel.arm(WireFault("late", value=0.25))
    panel.write(b"POW?\n", end=False)
    assert received(panel) == []
    clock.sleep(0.3)
    assert received(panel) == [b"POW?\n"]


def test_a_stale_answer_is_the_one_before() -> None:
    clock = BenchClock()
    panel = faulty(Echo(), clock)
    panel.arm(WireFault("stale", "B", value=0.1))
    for message, expected in ((b"A\n", [b"A\n"]), (b"B\n", [b"A\n"])):
        panel.write(message, end=False)
        assert received(panel) == expected
    clock.sleep(0.2)
    assert received(panel) == [b"B\n"]


def test_two_bits_of_a_frame_are_flipped_so_that_its_checksum_holds() -> None:
    bench = load_bench(shipped_bench_path())
    faults = FaultyBench(bench)
    faults.arm(PlannedFault(kind="bits flipped", panel="server_laser", on="read 32"))
    panel = bench.panels[SERIAL]
    panel.write(Request(0x32).encode(), end=False)
    assert Reply.decode(panel.read(4)[0]).data == 0x0808
    assert faults.hits() == 1


def test_a_connection_breaks_stays_down_and_comes_back() -> None:
    clock = BenchClock()
    panel = faulty(Echo(), clock)
    panel.arm(WireFault("dropped", "POW?", value=2.0))
    with pytest.raises(ConnectionLostError):
        panel.write(b"POW?\n", end=False)
    assert plugged_in(panel) is False
    with pytest.raises(ConnectionLostError):
        panel.read(1)
    clock.sleep(2.5)
    assert plugged_in(panel) is True
    panel.write(b"POW?\n", end=False)
    assert received(panel) == [b"POW?\n"]


def test_a_restart_loses_settings_and_sets_the_power_on_event() -> None:
    bench = load_bench(shipped_bench_path())
    faults = FaultyBench(bench)
    panel = bench.panels[MONITOR]

    def ask(message: bytes) -> bytes:
        panel.write(message, end=True)
        return panel.read(1 << 20)[0].strip()

    ask(b"*CLS\n")
    panel.write(b"SENS:CORR:WAV 1310\n", end=True)
    assert float(ask(b"SENS:CORR:WAV?\n")) == 1310.0
    assert int(ask(b"*ESR?\n")) & 0x80 == 0
    faults.arm(PlannedFault(kind="reboot", panel="monitor", on="SENS:CORR:WAV?"))
    assert float(ask(b"SENS:CORR:WAV?\n")) != 1310.0
    assert int(ask(b"*ESR?\n")) & 0x80


def test_without_a_fault_a_wire_changes_neither_answers_nor_time() -> None:
    found: list[tuple[list[tuple[bytes, bool]], float]] = []
    for wrapped in (False, True):
        bench = load_bench(shipped_bench_path())
        if wrapped:
            FaultyBench(bench)
        panel = bench.panels[MONITOR]
        replies = []
        for message in (b"*IDN?\n", b"SENS:CORR:WAV?\n", b"MEAS:POW?\n"):
            panel.write(message, end=True)
            replies.append(panel.read(1 << 20))
        found.append((replies, bench.clock.now_s()))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", sorted(LIGHT_FAULTS))
def test_a_fault_of_the_light_is_repaired(kind: str) -> None:
    """Before, during and after: what the components say of themselves."""

    def state() -> list[float | object]:
        optics, client = bench.optics, bench.optics.receivers["client"]
        return [
            optics.laser.frequency_hz,
            optics.laser.emitted_power_w(),
            optics.forward.transmittance,
            optics.back.transmittance,
            optics.modulator.child_i.phase_rad(),
            optics.attenuator.transmittance,
            optics.rotation.parameters,
            client.lo_fraction,
            client.detector.parameters,
            client.polarisation._stokes.tolist(),
            client.drift._rate_rad2_s,
            [each.clock_offset for each in bench.digitizers],
            bench.trigger._reaches,
        ]

    bench = load_bench(shipped_bench_path())
    bench.optics.modulator.child_i.drift_rad = lambda: 0.0
    bench.optics.laser.set_emission(True, 0.02, 193.4e12)
    before = state()
    fault = PlannedFault.model_validate({"kind": kind, "panel": "monitor", "value": 1.5})
    faults = FaultyBench(bench)
    faults.happen(fault)
    assert state() != before
    faults.repair()
    for repaired, whole in zip(state(), before, strict=True):
        # A phase that went up and down again has the rounding of both.
        assert repaired == (pytest.approx(whole) if isinstance(whole, float) else whole)


def test_polarisation_that_has_turned_away_leaves_no_light_and_full_vacuum() -> None:
    """Half a turn on the Poincare sphere; 16,384 samples, 4 standard errors of a variance: 5 %."""
    bench = load_bench(shipped_bench_path())
    polarisation = bench.optics.receivers["client"].polarisation
    break_light(bench, "polarisation jump", np.pi, "client")
    field = np.full(16_384, 100.0, np.complex64)
    polarisation.mix(field, Window(0, len(field)))
    assert abs(field.mean()) < 4.0 / np.sqrt(len(field) / 2)
    assert np.var(field.real) == pytest.approx(1.0, rel=0.05)


def test_a_plan_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(
        '[[faults]]\nkind = "lost"\npanel = "monitor"\non = "MEAS:POW?"\nafter = 3\n'
        '[[faults]]\nkind = "fibre cut"\npanel = "server_generator"\non = "*TRG"\n',
        encoding="utf-8",
    )
    plan = read_plan(path)
    assert [(fault.kind, fault.after, fault.of_light) for fault in plan.faults] == [
        ("lost", 3, False),
        ("fibre cut", 0, True),
    ]
    bench = load_bench(shipped_bench_path())
    FaultyBench(bench).plan(plan)
    assert bench.optics.forward.transmittance > 0.5
    generator = bench.panels["TCPIP0::server-generator::hislip0::INSTR"]
    generator.write(b"*TRG\n", end=True)
    assert bench.optics.forward.transmittance < 1e-10


def test_a_plan_that_cannot_be_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('[[faults]]\nkind = "lots"\npanel = "monitor"\n', encoding="utf-8")
    with pytest.raises(StationFileError, match=r"plan\.toml:1: faults\.0\.kind = 'lots'"):
        read_plan(path)
    with pytest.raises(SettingError, match=r"panel = 'nobody': must be one of the bench's: bias_i"):
        FaultyBench(load_bench(shipped_bench_path())).plan(
            FaultPlan(faults=(PlannedFault(kind="lost", panel="nobody"),))
        )
    with pytest.raises(ValidationError):
        PlannedFault(kind="lost", panel="monitor", after=-1)
