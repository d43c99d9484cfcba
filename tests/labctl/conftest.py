"""Ways to run the command line, and the small files that it is run on."""

from __future__ import annotations

import gzip
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.calibration import calibrator, store
from labctl.cli import main
from labctl.data import shipped_bench_path, shipped_station_path
from labctl.data.models import Network, save_network

Result = subprocess.CompletedProcess[str]

_STATION = """\
name = "small"
library = "{library}"
{instruments}
[frame]
symbol_rate_hz = 20e6
sample_rate_hz = 160e6
preamble_symbols = 257
guard_symbols = 16
longest_delay_s = 100e-6

[server]
laser = "{names[0]}"
laser_power_dbm = 13.0
laser_wavelength_nm = 1550.0
drive = {{ instrument = "{names[1]}", i_channel = 1, q_channel = 2 }}
bias_i = "{names[0]}"
bias_q = "{names[0]}"
bias_parent = "{names[0]}"
attenuator = "{names[0]}"
monitor = "{names[0]}"
lo_phase = {{ instrument = "{names[1]}", channel = 1 }}
shutter = {{ instrument = "{names[1]}", channel = 2 }}
digitizer = {{ instrument = "{names[2]}", channel = 1 }}
constants.v_pi_i_v = 3.5
constants.v_pi_q_v = 3.5
constants.monitor_ratio = 19.0
constants.fixed_attenuation_db = 45.7
constants.shutter_closed_v = 4.5
constants.phase_shifter_v_pi_v = 2.0
constants.efficiency = 0.8
constants.detector_delay_s = 0.0
constants.transmittance = 0.9
constants.transmittance_uncertainty = 0.02
constants.excess_noise_uncertainty = 0.002

[client]
rotation = {{ instrument = "{names[1]}", i_channel = 1, q_channel = 2 }}
lo_phase = {{ instrument = "{names[1]}", channel = 1 }}
gain = {{ instrument = "{names[1]}", channel = 2 }}
digitizer = {{ instrument = "{names[2]}", channel = 2 }}
constants.phase_shifter_v_pi_v = 2.0
constants.gain_per_v = 0.25
constants.emission_factor = 1.0
constants.efficiency = 0.85
constants.electronic_noise = 0.1
constants.detector_delay_s = 0.0
"""


@pytest.fixture
def small_station(tmp_path: Path) -> Callable[..., Path]:
    """Write a station file of three instruments {name: (driver, address)} that share all roles.

    Without `roles` it is the three instruments alone.
    """

    def write(
        instruments: Mapping[str, tuple[str, str]], library: str = "@py", *, roles: bool = True
    ) -> Path:
        tables = "\n".join(
            f'[instruments.{name}]\ndriver = "{driver}"\naddress = "{address}"\n'
            "limits = { voltage_v = { low = -1.0, high = 2.0 } }\n"
            for name, (driver, address) in instruments.items()
        )
        path = tmp_path / "small.toml"
        text = _STATION.format(library=library, instruments=tables, names=list(instruments))
        path.write_text(text if roles else text.partition("[frame]")[0], encoding="utf-8")
        return path

    return write


@pytest.fixture
def demo_station(tmp_path: Path) -> Path:
    """Return a copy of the shipped station file, its bench file beside it."""
    shutil.copy(shipped_bench_path(), tmp_path)
    return Path(shutil.copy(shipped_station_path(), tmp_path))


@pytest.fixture
def quick_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrate in this process at a fiftieth of the effort, and draw no figures of it."""
    original = calibrator.Calibrator

    def quick(*arguments: Any, effort: float, **more: Any) -> calibrator.Calibrator:
        return original(*arguments, effort=0.02 * effort, **more)

    def blank(path: Path, draw: object) -> None:
        path.write_bytes(b"no figure")

    monkeypatch.setattr(calibrator, "Calibrator", quick)
    monkeypatch.setattr(store, "_draw", blank)


@pytest.fixture
def tiny_network(tmp_path: Path) -> str:
    """Save a network of 784-8-10 and return its file."""
    random = np.random.default_rng(5)
    shapes = ((8, 784), (10, 8))
    layers = tuple(random.standard_normal(shape).astype(np.float32) for shape in shapes)
    save_network(Network(layers, "tiny", {"made": "random"}), tmp_path / "tiny.safetensors")
    return "tiny.safetensors"


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """Write twelve random pictures of 28 x 28 with their labels; return their folder."""
    random = np.random.default_rng(6)
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = random.integers(0, 256, (12, 28, 28), dtype=np.uint8)
    header = struct.pack(">4I", 0x0803, 12, 28, 28)
    (folder / "t10k-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
    labels = struct.pack(">2I", 0x0801, 12) + bytes(range(10)) + bytes(2)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return "pictures"


@pytest.fixture
def run_process(tmp_path: Path) -> Callable[..., Result]:
    """Run `labctl` as a process of its own, in an empty folder."""

    def run(*arguments: str, timeout_s: float = 60.0) -> Result:
        return subprocess.run(
            [sys.executable, "-m", "labctl", *arguments],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout_s,
            check=False,
        )

    return run


@pytest.fixture
def run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run `labctl` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["labctl", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return Result(list(arguments), code, out, err)

    return run


@pytest.fixture
def is_refusal() -> Callable[..., str]:
    """Check that a run failed with one line on stderr and nothing on stdout; return the line."""

    def check(result: Result, code: int = 2) -> str:
        assert result.stderr.startswith("error: "), result.stderr
        assert result.stderr.count("\n") == 1, result.stderr
        assert (result.returncode, result.stdout) == (code, "")
        assert not result.stderr.startswith("error: unexpected "), result.stderr
        return result.stderr.strip()

    return check


@pytest.fixture
def refused(run_here: Callable[..., Result], is_refusal: Callable[..., str]) -> Callable[..., str]:
    """Run `labctl`, check that it is refused, return the error line."""

    def run(*arguments: str, code: int = 2) -> str:
        return is_refusal(run_here(*arguments), code)

    return run
