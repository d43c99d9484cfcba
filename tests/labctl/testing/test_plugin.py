"""The pytest plugin: a separate bench for each test, or a station; nothing unless asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from labctl.data import shipped_bench_path, shipped_station_path

READINGS = """
import pytest

def reading(bench):
    scope = bench.world.panels["TCPIP0::server-scope::hislip0::INSTR"]
    scope.write(b":ACQ:TYPE NORM;:SING;:TRIG:FORC\\n", end=True)
    bench.clock.sleep(1.0)
    meter = bench.world.panels["USB0::0x1313::0x8078::P0000001::INSTR"]
    values = []
    for _ in range(3):
        meter.write(b"MEAS:POW?\\n", end=True)
        values.append(meter.read(100)[0].decode().strip())
    return values

def say(name, bench):
    with open("said.txt", "a") as file:
        print(name, bench.clock.now_s(), *reading(bench), file=file)

def test_first(bench):
    say("first", bench)

def test_second(bench):
    assert bench.clock.now_s() == 0.0
    say("second", bench)

@pytest.mark.labctl(seed=7)
def test_other_seed(bench):
    assert bench.seed == 7
    say("other", bench)

def test_station(station, clock):
    assert clock.now_s() > 0.0          # opening took the bench's time
    assert not station.server_laser.emission()
    station.server_laser.set_emission(True)

def test_station_again(station):
    assert not station.server_laser.emission()
"""
REVERSED = """
def pytest_collection_modifyitems(items):
    items.reverse()
"""
STATION_TEST = """
def test_lit(station, clock):
    assert not station.server_laser.emission()
    station.server_laser.set_power_dbm(10.0)
    station.server_laser.set_emission(True)
    assert clock.now_s() > 0.0

def test_fails_with_the_light_on(station):
    station.server_laser.set_emission(True)
    raise RuntimeError("in mid-experiment")

def test_dark_again(station):
    assert not station.server_laser.emission()

def test_of_a_bench(bench):
    raise AssertionError("must not run on a station")
"""
UNUSED = """
import sys

def test_nothing_is_loaded():
    loaded = {name for name in sys.modules if name.startswith("labctl.")}
    assert loaded <= {"labctl.version", "labctl.testing", "labctl.testing.plugin"}
    assert not {"numpy", "pyvisa", "pydantic", "scipy", "hypothesis"} & set(sys.modules)
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist", *arguments)


def said(path: Path) -> dict[str, str]:
    """Return what tests wrote, by test."""
    lines = (line.partition(" ") for line in path.read_text(encoding="utf-8").splitlines())
    found = {name: rest for name, _, rest in lines}
    path.unlink()
    return found


def test_each_test_has_a_bench_of_its_own_in_any_order(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(READINGS)
    run(pytester).assert_outcomes(passed=5)
    forwards = said(pytester.path / "said.txt")
    pytester.makeconftest(REVERSED)
    run(pytester, "-k", "first or second or other").assert_outcomes(passed=3)
    assert said(pytester.path / "said.txt") == forwards
    # The same seed, so the same noise; another seed, other noise.
    assert forwards["first"] == forwards["second"]
    assert forwards["other"] != forwards["first"]
    assert len(set(forwards["first"].split()[1:])) == 3, "readings have noise"


def test_a_seed_for_each_test_comes_from_its_name(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nlabctl_seed = test\n")
    pytester.makepyfile(READINGS)
    run(pytester, "-k", "first or second or other").assert_outcomes(passed=3)
    found = said(pytester.path / "said.txt")
    assert found["first"] != found["second"]


def test_the_same_tests_run_on_a_station_and_leave_it_dark(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    """A bench that goes on between tests, as instruments do, replaces them."""
    shutil.copy(shipped_bench_path(), pytester.path)
    shutil.copy(shipped_station_path(), pytester.path / "mine.toml")
    pytester.makepyfile(STATION_TEST)
    result = run(pytester, "--labctl-station", "mine.toml", "-rs")
    result.assert_outcomes(passed=2, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*needs a simulated bench, which --labctl-station replaces*"])
    result.stdout.fnmatch_lines(["*RuntimeError: in mid-experiment"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, ": cannot be read"),
        ("instruments = 1", ":1: instruments = 1"),
        ('[instruments.a]\ndriver = "santec"\naddress = "x"', ":2: *unknown driver 'santec'"),
    ],
)
def test_a_wrong_station_file_is_a_usage_error(
    pytester: pytest.Pytester, text: str | None, problem: str
) -> None:
    if text is not None:
        (pytester.path / "wrong.toml").write_text(text, encoding="utf-8")
    pytester.makepyfile("def test_it(station): ...")
    result = run(pytester, "--labctl-station", "wrong.toml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --labctl-station: *wrong.toml{problem}*"])


def test_several_processes_do_not_share_instruments(pytester: pytest.Pytester) -> None:
    text = '[instruments.a]\ndriver = "santec_tsl570"\naddress = "GPIB0::1::INSTR"'
    (pytester.path / "real.toml").write_text(text, encoding="utf-8")
    pytester.makepyfile("def test_it(): ...")
    result = pytester.runpytest_subprocess("-n", "2", "--labctl-station", "real.toml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --labctl-station real.toml: several processes *-n 0"])


def test_a_marker_that_says_nothing_known_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import pytest\n@pytest.mark.labctl(sead=1)\ndef test_it(bench): ...\n"
        "@pytest.mark.labctl(seed='x')\ndef test_seed(bench): ...\n"
    )
    result = run(pytester, "--strict-markers")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        [
            "*marker labctl: expected bench=, station= or seed=, got *sead*",
            "*labctl_seed: expected a number, file or test, got 'x'",
        ]
    )


def test_a_project_that_does_not_use_it_does_not_notice_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(UNUSED)
    pytester.makeini("[pytest]\naddopts = --strict-markers -W error\n")
    # hypothesis has its own plugin, which is not ours to count.
    run(pytester, "-p", "no:hypothesispytest").assert_outcomes(passed=1)
