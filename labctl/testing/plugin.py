"""The pytest plugin: fixtures `bench`, `station` and `clock`, and `--labctl-station FILE`.

pytest loads this module in every project that is tested where labctl is installed, so it imports
next to nothing; what the fixtures need comes when a test asks for one (docs/testing.md).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from labctl.clock import Clock
    from labctl.instruments.simulated.faults.plan import FaultyBench
    from labctl.station import Station
    from labctl.testing.bench import Bench

OPTION = "--labctl-station"
MARKER = "labctl"
_SIMULATED = "@labctl"
# An assertion in these says what was compared, as one in a test does.
_WITH_ASSERTIONS = (
    "abilities",
    "alone",
    "behind",
    "fuzz",
    "host",
    "on_bench",
    "walk",
    "with_panel",
)

pytest.register_assert_rewrite(*(f"labctl.testing.{name}" for name in _WITH_ASSERTIONS))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option and the settings of an ini file or pyproject.toml."""
    parser.getgroup("labctl").addoption(
        OPTION,
        metavar="FILE",
        help="station file of real instruments for the fixtures `station` and `clock`; tests that"
        " need a simulated `bench` are skipped, and each test leaves the instruments safe",
    )
    parser.addini("labctl_bench", "bench file for the fixture `bench`, relative to this file")
    parser.addini("labctl_station", "station file for the fixture `station`, relative to this file")
    parser.addini(
        "labctl_seed", "seed of the bench: a number, `file` (its own) or `test`", default="file"
    )
    parser.addini(
        "labctl_fresh_benches",
        "begin each test with all idle simulated benches of the process ended",
        type="bool",
        default=False,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; check the option before any test is collected."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(bench=None, station=None, seed=None): files relative to the test's own and the"
        " seed for the fixtures `bench` and `station`",
    )
    file = config.getoption(OPTION)
    # A worker of pytest-xdist has this; the process that started it has checked the file.
    if file is None or hasattr(config, "workerinput"):
        return
    simulated = _read_station(config, file)
    if not simulated and config.getoption("tx", default=None):
        raise pytest.UsageError(
            f"{OPTION} {file}: several processes cannot share instruments; add -n 0"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give the test fresh benches before its fixtures open any, where the project wants that."""
    if item.config.getini("labctl_fresh_benches"):
        from labctl.testing.bench import close_idle_benches

        close_idle_benches()


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """A simulated bench of this test's own: `bench.open(Driver, address)`, `bench.library`."""
    if request.config.getoption(OPTION) is not None:
        pytest.skip(f"needs a simulated bench, which {OPTION} replaces by instruments")
    from labctl.testing.bench import Bench

    wanted = _wanted(request)
    found = Bench(wanted.bench, tmp_path, wanted.seed)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def faults(bench: Bench) -> FaultyBench:
    """What can be broken on the bench: `faults.arm(PlannedFault(...))`, `faults.plan(plan)`."""
    return bench.faults


@pytest.fixture
def station(request: pytest.FixtureRequest) -> Iterator[Station]:
    """An open station, on this test's own bench or of real instruments; left safe at the end."""
    file = request.config.getoption(OPTION)
    if file is None:
        own = request.getfixturevalue("bench")
        found = _wanted(request).station
        if found is None:
            raise pytest.UsageError(
                f"no station file for {own.path.name}: set labctl_station, or station= of the"
                f" marker {MARKER}"
            )
        yield own.station(found)
        return
    from labctl.station import Station

    with Station.read(request.config.invocation_params.dir / file) as opened:
        yield opened


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> Clock:
    """The time by which the instruments work: the bench's own, or the wall's on hardware."""
    if request.config.getoption(OPTION) is None:
        time: Clock = request.getfixturevalue("bench").clock
        return time
    from labctl.instruments.transports.opening import open_clock
    from labctl.station.file import library_of

    opened = request.getfixturevalue("station")
    return open_clock(library_of(opened.table, opened.path))


@dataclass(frozen=True)
class _Wanted:
    """What a test's bench and station are made of."""

    bench: Path
    station: Path | None
    seed: int | None


def _wanted(request: pytest.FixtureRequest) -> _Wanted:
    """Return what marker and settings say, a marker first, then the shipped demo.

    A bench without a station file has none; a station file without a bench is on its own.
    """
    said = _said(request)
    bench, station = said.get("bench"), said.get("station")
    if bench is None:
        bench = _bench_of(station) if station is not None else _shipped("shipped_bench_path")
        station = station or _shipped("shipped_station_path")
    seed = said.get("seed", request.config.getini("labctl_seed"))
    return _Wanted(bench, station, _seed(seed, request.node.nodeid))


def _said(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the settings, and over them the markers, the nearest last; files as paths."""
    said: dict[str, Any] = {}
    for key in ("bench", "station"):
        value = request.config.getini(f"labctl_{key}")
        if value:
            folder = request.config.inipath.parent if request.config.inipath else Path()
            said[key] = folder / value
    for marker in reversed(list(request.node.iter_markers(MARKER))):
        unknown = set(marker.kwargs) - {"bench", "station", "seed"}
        if unknown or marker.args:
            raise pytest.UsageError(
                f"marker {MARKER}: expected bench=, station= or seed=, got"
                f" {[*marker.args, *sorted(unknown)]}"
            )
        for key, value in marker.kwargs.items():
            said[key] = value if key == "seed" else request.path.parent / value
    return said


def _seed(value: object, test: str) -> int | None:
    """Return a seed; None is the bench file's own."""
    text = str(value)
    if text == "file":
        return None
    if text == "test":
        return zlib.crc32(test.encode())
    if text.isdecimal():
        return int(text)
    raise pytest.UsageError(f"labctl_seed: expected a number, file or test, got {text!r}")


def _bench_of(station: Path) -> Path:
    from labctl.station.file import library_of, read_station_file

    library = library_of(read_station_file(station), station)
    bench = library.removesuffix(_SIMULATED)
    if bench == library or not bench:
        raise pytest.UsageError(
            f"{station}: library {library!r} is no simulated bench; name one with labctl_bench"
        )
    return Path(bench)


def _shipped(name: str) -> Path:
    from labctl import data

    path: Path = getattr(data, name)()
    return path


def _read_station(config: pytest.Config, file: str) -> bool:
    """Check a station file; return whether all of it is simulated."""
    from labctl.errors import LabctlError
    from labctl.station import Station
    from labctl.station.file import library_of

    try:
        station = Station.read(config.invocation_params.dir / file)
    except LabctlError as error:
        raise pytest.UsageError(f"{OPTION}: {error}") from error
    table, path = station.table, station.path
    return all(library_of(table, path, name).endswith(_SIMULATED) for name in station.names)
