"""`import labctl` loads next to nothing and offers everything; each call does what it says."""

from __future__ import annotations

import inspect
import logging
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

import labctl
from labctl.data import shipped_bench_path, shipped_station_path
from labctl.data.mnist import load_test_images
from labctl.data.models import load_network
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.ledger.accounts import Party
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.signing import SigningKey
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.run.inference import run_inference
from labctl.run.request import LinkLevel, ModeRun

ROOT = Path(__file__).resolve().parents[3]


def test_importing_it_loads_no_numpy_and_every_name_is_there(tmp_path: Path) -> None:
    script = (
        "import sys, labctl\n"
        "heavy = {'numpy', 'scipy', 'pydantic', 'pyvisa', 'h5py', 'matplotlib', 'logging'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "for name in dir(labctl): getattr(labctl, name)\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_every_public_name_is_on_its_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in labctl.__all__ if not re.search(rf"`{name}[`(]", page)] == []


def test_a_wrong_name_says_what_was_meant() -> None:
    with pytest.raises(AttributeError, match=r"'open_sttion'; did you mean 'open_station'\?"):
        getattr(labctl, "open_" + "sttion")
    assert not hasattr(labctl, "nothing_of_the_kind")
    assert labctl.errors.LimitError is labctl.LimitError


def test_a_station_opens_by_its_path_as_text(tmp_path: Path) -> None:
    shutil.copy(shipped_bench_path(), tmp_path)
    path = shutil.copy(shipped_station_path(), tmp_path)
    station = labctl.open_station(str(path))
    try:
        assert station.is_open
        assert list(station) == list(station.names)
        assert len(station) == len(station.names) > 0
        assert "monitor" in station
        assert station.monitor is station["monitor"]
        assert "server_laser" in dir(station)
        assert "set_power_dbm" in dir(station.server_laser)
        assert "server_laser" in repr(station)
        assert "PPCL550" in repr(station)
        with pytest.raises(labctl.UsageError, match="is open already"):
            station.open()
        with pytest.raises(labctl.UnknownInstrumentError, match="did you mean 'server_laser'"):
            _ = station["laser"]
        with pytest.raises(AttributeError, match="did you mean 'monitor'"):
            _ = station.moniter
        with pytest.raises(labctl.SettingError, match="a station that is not open"):
            labctl.infer(1, station=station)
    finally:
        station.close()
    station.close()
    with pytest.raises(labctl.UsageError, match="is not open"):
        _ = station.monitor


def test_a_snapshot_has_who_answered_and_what_is_set() -> None:
    with labctl.simulated_station("fleet") as station:
        station.swept_laser.set_power(2e-3)
        station.swept_laser.set_wavelength_nm(1555.0)
        station["supply/1"].set_voltage(1.25)
        station["heaters/6"].set_voltage(0.5)
        station["meter/2"].set_wavelength_nm(1540.0)
        seen = station.snapshot()
    laser = seen["swept_laser"]
    assert laser["identity"]["model"].startswith("N7776C")
    assert laser["settings"]["frequency_hz"] == pytest.approx(299792458.0 / 1555e-9)
    assert laser["settings"]["emission"] is False
    assert seen["supply"]["settings"]["1.voltage_v"] == pytest.approx(1.25)
    assert "4.voltage_v" not in seen["supply"]["settings"]
    assert seen["heaters"]["settings"]["6.voltage_v"] == pytest.approx(0.5, abs=0.01)
    assert seen["meter"]["settings"]["2.wavelength_m"] == pytest.approx(1540e-9)
    assert "laser.channel" in seen["modulator_bias"]["settings"]
    assert set(seen) == set(station.names)


def test_a_station_that_is_not_shipped_is_refused() -> None:
    with pytest.raises(labctl.SettingError, match="one of demo, lab, fleet"):
        labctl.simulated_station(cast("Any", "other"))


def test_wire_traffic_and_decisions_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="labctl"), labctl.simulated_station() as station:
        station.monitor.set_wavelength_nm(1550.0)
    wire = [each.getMessage() for each in caplog.records if each.name == "labctl.wire"]
    assert "monitor > SENS:CORR:WAV 1550.000000" in wire
    assert any(line.startswith("monitor < THORLABS,PM100D") for line in wire)
    decided = [each.getMessage() for each in caplog.records if each.levelno == logging.INFO]
    assert any("server_laser: power_w limited to 0..0.0225" in line for line in decided)
    assert any(line.endswith("all safe and closed") for line in decided)


def test_inference_in_one_call_is_the_run_of_the_same_request(tmp_path: Path) -> None:
    found = labctl.infer(2, seed=3, gain=1.4, loss="trusted", runs=str(tmp_path / "one"))
    images = load_test_images()
    request = ModeRun(
        network=load_network("noise-aware"),
        images=replace(images, images=images.images[:2], labels=images.labels[:2]),
        runs=tmp_path / "two",
        receiver=CloneReceiver(1.4, 1.0, IDEAL_HOMODYNE),
        assumptions=Assumptions(loss=Trust.TRUSTED, technical_noise=Trust.UNTRUSTED),
        seed=3,
    )
    expected = run_inference(request)
    assert found.accuracy == expected.accuracy
    assert found.leakage == expected.leakage
    assert found.verification == expected.verification
    kept = labctl.open_run(str(found.run_file))
    assert kept.complete
    assert len(kept.predictions) == 2


def test_what_is_left_out_is_what_the_command_line_takes() -> None:
    from labctl.cli.infer import infer as command

    theirs = inspect.signature(command).parameters
    ours = inspect.signature(labctl.infer).parameters
    names = {name: name for name in ours if name in theirs and name != "station"}
    for name, option in {**names, "mean_photons": "mu"}.items():
        assert str(ours[name].default) == str(theirs[option].default), name
    assert len(names) > 15


def test_with_a_station_the_same_call_runs_over_its_instruments(
    tmp_path: Path, tiny_network: str
) -> None:
    report = labctl.infer(
        1,
        model=tmp_path / tiny_network,
        mean_photons=4.0,
        gain=2.0,
        station=str(shipped_station_path()),
        calibrations=str(tmp_path / "records"),
        stale="accept",
        runs=tmp_path / "runs",
    )
    assert report.link is LinkLevel.BENCH
    assert report.verification.accepted
    assert report.calibration is not None
    assert "half_wave_voltage" in report.calibration["doubts"]
    kept = labctl.open_run(report.run_file)
    assert kept.station_text == shipped_station_path().read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"images": 0}, "images = 0: must be 1 to"),
        ({"sample": "some"}, "sample = 'some': must be one of"),
        ({"loss": "maybe"}, "loss = 'maybe': must be one of"),
        ({"station": "a.toml", "loss_db": 1.0}, "left out with a station"),
        ({"ledger": "books"}, "client = None: must be given with a ledger"),
        ({"budget_bits": 1.0}, "budget_bits = 1.0: must be given with a ledger"),
        ({"client_key": "a.pem"}, "client_key = 'a.pem': must be given with a ledger"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    arguments: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(labctl.SettingError, match=told):
        labctl.infer(**{"images": 1, "runs": tmp_path, **arguments})
    assert list(tmp_path.iterdir()) == []


def test_a_bound_client_shows_its_key_in_the_same_call(tmp_path: Path) -> None:
    books, key = tmp_path / "books", SigningKey.make(tmp_path / "alice.pem")
    server = Ledger(books, Party.SERVER)
    server.add_client("alice", key.public, server.operator())
    given: dict[str, Any] = {"ledger": books, "client": "alice", "runs": tmp_path / "runs"}
    with pytest.raises(labctl.IdentityError, match="--client-key FILE with its private key"):
        labctl.infer(1, **given)
    assert not (books / "runs").exists()
    report = labctl.infer(1, client_key=tmp_path / "alice.pem", **given)
    assert report.as_json()["ledger"]["identity"] == key.public.fingerprint


def test_leakage_of_a_setting_in_one_call() -> None:
    known = labctl.leakage(4.0, 2.0, model=None, queries=10)
    assert known.first.rows == 784
    assert known.together.queries == 10
    assert known.together.bits > known.one.weights_bits_prior_free
    with pytest.raises(labctl.SettingError, match="queries = 0"):
        labctl.leakage(queries=0)


def test_calibration_in_one_call_keeps_its_records_and_an_open_station(tmp_path: Path) -> None:
    store = str(tmp_path / "records")
    steps: list[str] = []
    with labctl.simulated_station("lab") as station:
        known = labctl.calibrate(
            station, ["electronics"], store=store, effort=0.05, on_step=steps.append
        )
        assert station.is_open
        assert "electronics" in known.records
        assert known.quantities
        assert any("electronics: record" in step for step in steps)
        again = labctl.calibrate(station, ["electronics"], store=store, effort=0.05)
    assert again.records == known.records


def test_a_station_without_roles_cannot_be_calibrated(tmp_path: Path) -> None:
    from labctl.data import shipped_fleet_station_path

    with pytest.raises(labctl.StationFileError, match=r"no \[frame\] and \[server\]"):
        labctl.calibrate(shipped_fleet_station_path(), store=tmp_path)


@pytest.mark.parametrize("script", ["first_light", "first_inference"])
def test_the_shortest_scripts_run_and_stand_in_the_readme(script: str, tmp_path: Path) -> None:
    path = ROOT / "examples" / f"{script}.py"
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=110,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    body = path.read_text(encoding="utf-8").partition('"""\n\n')[2]
    assert len(body.splitlines()) <= 10
    assert body in (ROOT / "README.md").read_text(encoding="utf-8")
