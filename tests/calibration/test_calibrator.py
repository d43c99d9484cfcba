"""The calibrator runs routines after what they need, keeps records, and refuses stale ones."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from labctl.calibration.applicability import State
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.calibrator import Calibrator, subject, utc_now
from labctl.calibration.catalogue import ROUTINES
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import Condition, Outcome, Routine
from labctl.calibration.routines.half_wave_voltage import HalfWaveVoltage
from labctl.calibration.store import Store
from labctl.data import shipped_station_path
from labctl.errors import CalibrationError, RecordError, SettingError
from labctl.station import Station
from labctl.station.equipment import equipment_of

HOUR_S = 3600.0


def draw(figure: Figure) -> None:
    figure.subplots()


@dataclass
class Toy:
    """A routine that finds what it is given and remembers what it knew."""

    name: str
    needs: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("server.laser",)
    valid_for_s: float = HOUR_S
    quantity: str = ""
    value: float = 1.0
    set_to: float = 1.0
    room_c: float | None = None
    act: Callable[[], None] = lambda: None
    knew: list[dict[str, str]] = field(default_factory=list)
    title: str = "a toy"

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        return {"set_to": self.set_to}

    def run(self, bench: CalibrationBench) -> Outcome:
        self.knew.append(dict(bench.knowledge.records))
        self.act()
        found = {
            Name(self.quantity or f"{self.name}_v"): Quantity.of(self.value, "V", {"noise": 0.01})
        }
        conditions = {} if self.room_c is None else {"room_c": Condition(self.room_c, 1.0, "degC")}
        return Outcome(found, {"x": np.arange(3.0)}, draw, conditions)


@dataclass
class Time:
    """A clock that is set by hand."""

    now: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


Make = Callable[..., Calibrator]


@pytest.fixture(scope="module")
def station() -> Iterator[Station]:
    with Station.read(shipped_station_path()) as opened:
        yield opened


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def make(station: Station, store: Store, time: Time) -> Make:
    def calibrator(*routines: Routine, **options: object) -> Calibrator:
        told: dict[str, object] = {"now": time, **options}
        return Calibrator(station, equipment_of(station), store, routines, **told)  # type: ignore[arg-type] # options by name

    return calibrator


def chain() -> tuple[Toy, Toy, Toy]:
    return Toy("base"), Toy("middle", needs=("base",)), Toy("top", needs=("middle",))


def names(calibrator: Calibrator, asked: Sequence[str]) -> list[str]:
    return [record.routine for record in calibrator.run(asked)]


def states(calibrator: Calibrator) -> list[State]:
    return [each.state for each in calibrator.judgements().values()]


def test_nothing_is_known_at_first(make: Make) -> None:
    calibrator = make(*chain())
    assert states(calibrator) == [State.MISSING] * 3
    assert calibrator.stale() == calibrator.names == ("base", "middle", "top")
    assert calibrator.knowledge().quantities == {}
    assert calibrator.judged() == []


def test_a_routine_runs_after_all_that_it_needs(make: Make) -> None:
    calibrator = make(*chain(), Toy("alone"))
    assert calibrator.planned(["top"]) == ("base", "middle", "top")
    assert names(calibrator, ["top"]) == ["base", "middle", "top"]
    assert states(calibrator) == [State.APPLICABLE] * 3 + [State.MISSING]


def test_what_applies_is_not_measured_again_unless_it_is_asked_for(make: Make) -> None:
    calibrator = make(*chain())
    assert names(calibrator, ["middle"]) == ["base", "middle"]
    assert names(calibrator, ["top"]) == ["top"]
    assert names(calibrator, ["top", "base", "top"]) == ["base", "top"]


def test_a_record_names_all_that_went_into_it_and_nothing_else_did(make: Make) -> None:
    routines = (Toy("other"), *chain())
    found = {record.routine: record for record in make(*routines).run([r.name for r in routines])}
    below = {name: found[name].id for name in ("base", "middle")}
    assert found["base"].used == {}
    assert found["top"].used == below
    assert [routine.knew for routine in routines[1:]] == [[{}], [{"base": below["base"]}], [below]]


def test_a_record_is_about_the_instruments_of_its_roles_and_the_settings(make: Make) -> None:
    roles = ("server.laser", "server.drive", "client.digitizer")
    (record,) = make(Toy("base", roles=roles)).run(["base"])
    assert record.subject == {
        "server.laser": "Pure Photonics PPCL550 CRTN0001",
        "server.drive": "Agilent Technologies 33512B MY52300001, channels 1 and 2",
        "client.digitizer": record.subject["client.digitizer"],
    }
    assert record.subject["client.digitizer"].endswith(", channel 1")
    assert (record.settings, record.station) == ({"set_to": 1.0}, "demo")


def test_the_time_is_that_of_the_end_of_the_measurement(make: Make, time: Time) -> None:
    calibrator = make(Toy("base", act=lambda: time.pass_(600.0)))
    started = time()
    (record,) = calibrator.run(["base"])
    assert record.age_s(started) == -600.0


def test_an_instrument_without_a_serial_number_says_so() -> None:
    with Station.read(shipped_station_path()) as station:
        for reply in ("", "0"):
            who = type("Who", (), {"maker": "M", "model": "L", "serial": reply, "firmware": "1"})
            station.identities["server_laser"] = who()
            assert subject(station, ["server.laser"]) == {"server.laser": "M L no serial number"}
        assert subject(station, ["server.no_such_role"]) == {"server.no_such_role": "nothing"}


def test_records_expire_and_stale_ones_alone_are_measured_again(make: Make, time: Time) -> None:
    calibrator = make(Toy("base", valid_for_s=60.0), Toy("alone"), Toy("top", needs=("base",)))
    assert len(names(calibrator, calibrator.names)) == 3
    assert calibrator.run_stale() == ()
    time.pass_(61.0)
    assert states(calibrator) == [State.EXPIRED, State.APPLICABLE, State.UNCERTAIN]
    assert calibrator.stale() == ("base", "top")
    # Measured again, and as before: what rests on it is no longer in doubt.
    assert [record.routine for record in calibrator.run_stale()] == ["base"]
    assert states(calibrator) == [State.APPLICABLE] * 3


def test_what_rests_on_a_value_that_changed_is_measured_again(make: Make, time: Time) -> None:
    base, middle, top = Toy("base", valid_for_s=60.0), Toy("middle", ("base",)), Toy("top")
    calibrator = make(base, middle, top)
    calibrator.run(calibrator.names)
    time.pass_(61.0)
    base.value = 2.0
    assert [record.routine for record in calibrator.run_stale()] == ["base", "middle"]
    assert states(calibrator) == [State.APPLICABLE] * 3


def test_stale_may_be_asked_of_some_routines_and_what_they_need(make: Make) -> None:
    calibrator = make(*chain(), Toy("alone"))
    assert [record.routine for record in calibrator.run_stale(["middle"])] == ["base", "middle"]
    assert [record.routine for record in calibrator.run_stale(["middle"])] == []


def test_other_settings_are_a_mismatch_until_they_are_back(make: Make) -> None:
    make(Toy("base", set_to=1.0)).run(["base"])
    other = make(Toy("base", set_to=2.0, value=5.0))
    assert states(other) == [State.MISMATCH]
    assert other.knowledge().quantities == {}
    other.run(["base"])
    assert other.knowledge().quantity(Name("base_v")).value == 5.0
    back = make(Toy("base", set_to=1.0))
    assert states(back) == [State.APPLICABLE]
    assert back.knowledge().quantity(Name("base_v")).value == 1.0


def test_measured_constants_do_not_make_the_routine_s_own_record_a_mismatch(make: Make) -> None:
    class Dependent(Toy):
        def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
            return {"v_pi_v": bench.equipment.server.constants.v_pi_i_v}

    calibrator = make(Dependent("base", quantity="server.v_pi_i_v", value=3.6))
    calibrator.run(["base"])
    assert calibrator.bench.equipment.server.constants.v_pi_i_v == 3.6
    assert states(calibrator) == [State.APPLICABLE]


def test_conditions_that_moved_make_a_record_uncertain(make: Make) -> None:
    make(Toy("base", room_c=21.0)).run(["base"])
    assert states(make(Toy("base"), conditions={"room_c": 21.5})) == [State.APPLICABLE]
    assert states(make(Toy("base"), conditions={"room_c": 23.0})) == [State.UNCERTAIN]
    assert states(make(Toy("base"))) == [State.APPLICABLE]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_routine_that_finds_no_number_leaves_no_record(
    make: Make, store: Store, value: float
) -> None:
    calibrator = make(Toy("base", value=value))
    with pytest.raises(CalibrationError) as caught:
        calibrator.run(["base"])
    assert caught.value.__notes__ == ["in base, of which nothing was kept"]
    assert store.records() == []


def test_a_value_that_the_hardware_cannot_have_leaves_no_record(make: Make, store: Store) -> None:
    calibrator = make(Toy("base", quantity="server.efficiency", value=1.1))
    with pytest.raises(CalibrationError, match=r"server\.efficiency .* cannot be right"):
        calibrator.run(["base"])
    assert store.records() == []
    assert states(calibrator) == [State.MISSING]


def test_a_failure_keeps_what_came_before_and_stale_goes_on_from_there(make: Make) -> None:
    def fail() -> None:
        raise CalibrationError("no light: is the fibre connected?")

    base, middle, top = chain()
    calibrator = make(base, middle, top)
    middle.act = fail
    with pytest.raises(CalibrationError, match="is the fibre connected"):
        calibrator.run(["top"])
    assert states(calibrator) == [State.APPLICABLE, State.MISSING, State.MISSING]
    middle.act = lambda: None
    assert [record.routine for record in calibrator.run_stale()] == ["middle", "top"]


def test_ctrl_c_in_a_routine_keeps_what_came_before(make: Make) -> None:
    base, middle, top = chain()
    middle.act = lambda: signal.raise_signal(signal.SIGINT)
    calibrator = make(base, middle, top)
    with pytest.raises(KeyboardInterrupt):
        calibrator.run(["top"])
    assert states(calibrator) == [State.APPLICABLE, State.MISSING, State.MISSING]


def test_a_need_that_expires_on_the_way_stops_what_rests_on_it(make: Make, time: Time) -> None:
    base = Toy("base", valid_for_s=60.0)
    slow = Toy("slow", act=lambda: time.pass_(100.0))
    calibrator = make(base, slow, Toy("top", needs=("base", "slow")))
    with pytest.raises(CalibrationError, match=r"needs base, which is expired.*run base again"):
        calibrator.run(["top"])


def test_a_calibrated_station_is_demanded(make: Make, time: Time) -> None:
    calibrator = make(*chain())
    with pytest.raises(RecordError, match=r"'demo' is not calibrated: base missing .*--only-stale"):
        calibrator.demand()
    calibrator.run(["middle"])
    with pytest.raises(RecordError, match="top missing"):
        calibrator.demand()
    told = calibrator.demand(["base", "middle"])
    assert set(told.records) == {"base", "middle"}
    assert told.doubts == {}
    time.pass_(HOUR_S + 1.0)
    with pytest.raises(RecordError, match=r"base expired \(1\.0 h old, valid for 1\.0 h\)"):
        calibrator.demand(["base"])


def test_who_insists_gets_stale_records_and_is_told_so(make: Make, time: Time) -> None:
    make(Toy("base"), Toy("middle", ("base",))).run(["middle"])
    time.pass_(HOUR_S + 1.0)
    calibrator = make(Toy("base"), Toy("middle", ("base",), set_to=7.0), Toy("top"))
    told = calibrator.demand(anyway=True)
    assert set(told.records) == {"base", "middle"}
    assert told.quantity(Name("middle_v")).value == 1.0
    assert {name: why.split()[0] for name, why in told.doubts.items()} == {
        "base": "expired",
        "middle": "mismatch",
        "top": "missing",
    }


def test_an_uncertain_record_is_used_and_said(make: Make) -> None:
    make(Toy("base", room_c=21.0)).run(["base"])
    told = make(Toy("base"), conditions={"room_c": 30.0}).demand()
    assert set(told.records) == {"base"}
    assert told.doubts["base"].startswith("uncertain (room_c was 21 degC")


def test_run_runs_when_called_and_steps_one_routine_at_a_time(make: Make, store: Store) -> None:
    calibrator = make(*chain())
    calibrator.run(["base"])
    assert [record.routine for record in store.records()] == ["base"]
    steps = calibrator.steps(["middle", "top"])
    assert len(store.records()) == 1
    assert next(steps).routine == "middle"
    assert [record.routine for record in store.records()] == ["base", "middle"]
    assert calibrator.run_stale() == tuple(store.records()[2:])


@pytest.mark.parametrize("asked", [["nope"], ["base", "nope"]])
def test_an_unknown_routine_is_refused(make: Make, asked: list[str]) -> None:
    calibrator = make(Toy("base"))
    for ask in (calibrator.planned, calibrator.demand):
        with pytest.raises(SettingError, match="'nope': must be one of base"):
            ask(asked)
    with pytest.raises(SettingError):
        calibrator.run_stale(asked)


@pytest.mark.parametrize(
    "routines",
    [
        (Toy("top", needs=("base",)), Toy("base")),
        (Toy("base"), Toy("base")),
        (Toy("base", needs=("base",)),),
        (Toy("base", valid_for_s=0.0),),
        (Toy("base", valid_for_s=math.nan),),
    ],
)
def test_routines_out_of_order_are_refused(make: Make, routines: tuple[Toy, ...]) -> None:
    with pytest.raises(SettingError):
        make(*routines)


@pytest.mark.parametrize(
    "options",
    [{"effort": 0.0}, {"effort": -1.0}, {"effort": math.nan}, {"effort": 1e9}, {"seed": -1}],
)
def test_effort_and_seed_have_their_ranges(make: Make, options: dict[str, object]) -> None:
    with pytest.raises(SettingError, match=next(iter(options))):
        make(Toy("base"), **options)


def test_steps_are_told(make: Make) -> None:
    steps: list[str] = []
    make(Toy("base"), on_step=steps.append).run(["base"])
    assert steps == ["base: a toy"]


def test_now_has_a_time_zone() -> None:
    assert utc_now().utcoffset() == timedelta(0)


def test_the_catalogue_is_in_order(make: Make) -> None:
    assert make(*ROUTINES).names[0]


def test_half_wave_voltages_of_the_shipped_bench(make: Make, store: Store) -> None:
    # The bench's half-wave voltage is 3.5 V; 0.5 mV are four standard uncertainties, seed 1.
    calibrator = make(HalfWaveVoltage(), seed=1)
    (record,) = calibrator.run(["half_wave_voltage"])
    for name in ("server.v_pi_i_v", "server.v_pi_q_v"):
        assert record.quantity(name).value == pytest.approx(3.5, abs=5e-4)
        assert calibrator.knowledge().quantity(Name(name)) == record.quantity(name)
    assert states(calibrator) == [State.APPLICABLE]
    assert len(store.raw(record)["power_i_w"]) == 25
