"""A bench whose client has its own laser: its wiring, and what is refused of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from own_laser import bench_text

from labctl.data import (
    shipped_own_laser_bench_path,
    shipped_own_laser_client_path,
    shipped_two_sites_bench_path,
    shipped_two_sites_client_path,
)
from labctl.errors import StationFileError
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_file import load_bench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.ports import CaptureWindow, ChannelWindow
from labctl.station.file import read_station_file
from labctl.toml_file import read_toml

SIGNAL_HZ = 193.4e12


def bench(folder: Path, text: str) -> LinkBench:
    path = folder / "bench.toml"
    path.write_text(text, encoding="utf-8")
    return load_bench(path)


def variance(made: LinkBench, receiver: str) -> float:
    """Variance in V^2 of a record without any frame: shot noise of the local oscillator."""
    window = CaptureWindow(0.0, 160e6, 20_000, {1: ChannelWindow(0.5, 0.0)})
    return float(np.var(made.digitizer_at(receiver).capture_now(window)[1]))


def test_each_receiver_has_the_shot_noise_of_its_own_local_oscillator(tmp_path: Path) -> None:
    made = bench(tmp_path, bench_text())
    own = made.optics.client_laser
    assert own is not None
    dark = variance(made, "client")
    made.optics.laser.set_emission(True, 0.02, SIGNAL_HZ)
    assert variance(made, "client") == pytest.approx(dark, rel=0.1)
    assert variance(made, "server") > 3.0 * dark
    own.set_emission(True, 0.02, SIGNAL_HZ + 34e6)
    assert variance(made, "client") > 3.0 * dark


def test_its_power_is_not_taken_from_the_servers_laser(tmp_path: Path) -> None:
    """Shares of 0.1, 0.35 and 0.9 are more than one laser has."""
    text = bench_text().replace("lo_fraction = 0.35", "lo_fraction = 0.9", 1)
    assert bench(tmp_path, text).optics.client_laser is not None
    one = text.replace("[client_laser]", "[probes.unused]", 1).replace('laser = "client"', "")
    with pytest.raises(StationFileError):
        bench(tmp_path, one)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('laser = "client"', 'laser = "server"', "must be 'link' or 'client'"),
        ('laser = "client"', 'laser = "link"', "the link's laser is taken by"),
        ("linewidth_hz = 100.0\nrin_db_hz = -150.0\nf", "rin_db_hz = -150.0\nf", "linewidth_hz"),
        ("pilots_measured = true", "pilots_measured = true\nturns = 2", "a unit of 2 turns"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    text = bench_text()
    assert text.count(old) == 1
    text = text.replace(old, new)
    if "turns" in new:
        text = text.replace("\nturns = 1", "", 1)
    with pytest.raises(StationFileError, match=told):
        bench(tmp_path, text)


def test_a_panel_without_its_laser_is_refused_with_its_line(tmp_path: Path) -> None:
    text = bench_text()
    first, last = text.index("[client_laser]"), text.index("[panels.client_laser]")
    with pytest.raises(StationFileError, match=r"panels\.client_laser\.laser.*add a table"):
        bench(tmp_path, text[:first] + text[last:])


def test_a_laser_without_a_panel_is_refused_with_its_line(tmp_path: Path) -> None:
    text = bench_text()
    with pytest.raises(StationFileError, match=r"client_laser: no panel switches it on"):
        bench(tmp_path, text[: text.index("[panels.client_laser]")])


def test_the_shipped_bench_is_that_of_two_sites_but_for_the_oscillator() -> None:
    ours, plain = (
        read_toml(path, BenchFile)
        for path in (shipped_own_laser_bench_path(), shipped_two_sites_bench_path())
    )
    assert ours.client_laser is not None
    assert set(ours.panels) - set(plain.panels) == {"client_laser"}
    assert ours.doors["client"].panels == (*plain.doors["client"].panels, "client_laser")
    assert ours.doors["server"] == plain.doors["server"]
    changed = {"client_laser", "panels", "doors", "rotation", "client"}
    assert ours.model_dump(exclude=changed) == plain.model_dump(exclude=changed)
    assert ours.rotation == plain.rotation.model_copy(update={"pilots_measured": True})
    assert ours.client == plain.client.model_copy(update={"lo_delay_s": 0.0})


def test_the_shipped_station_is_that_of_two_sites_but_for_the_oscillator() -> None:
    ours, plain = (
        read_station_file(path)
        for path in (shipped_own_laser_client_path(), shipped_two_sites_client_path())
    )
    assert ours.client.local_oscillator is not None
    assert ours.client.model_dump(exclude={"local_oscillator"}) == plain.client.model_dump(
        exclude={"local_oscillator"}
    )
    assert ours.frame == plain.frame
    assert ours.client.receiver_constants.efficiency == ours.client.constants.efficiency / 2.0
    assert plain.client.receiver_constants == plain.client.constants
