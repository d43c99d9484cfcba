"""`labctl station`: checking opens nothing; opening leaves every instrument safe."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from labctl.data import shipped_station_path
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.keysight_33500 import Keysight33500Panel
from labctl.instruments.simulated.ports import Drive
from labctl.station.file import read_station_file

Result = subprocess.CompletedProcess[str]


class Plug:
    """An output connector and a trigger cable that lead nowhere; notes what was played last."""

    def __init__(self) -> None:
        self.drive: Drive | None = None

    def play(self, drive: Drive | None) -> None:
        self.drive = drive

    def fire(self) -> None:
        """Nobody is triggered."""

    def listen(self, callback: Callable[[float], None]) -> None:
        """No trigger will come."""


class Peer:
    """Answers every line on a loopback port with what `answer` makes of it."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.lines: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"TCPIP0::127.0.0.1::{self.port}::SOCKET"

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=20)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with suppress(OSError), connection, connection.makefile("rb") as lines:
                for line in lines:
                    self.lines.append(line)
                    connection.sendall(self._answer(line))


@pytest.fixture
def peer() -> Iterator[Callable[[Callable[[bytes], bytes]], Peer]]:
    """Start peers that end with the test."""
    peers: list[Peer] = []

    def start(answer: Callable[[bytes], bytes]) -> Peer:
        peers.append(Peer(answer))
        return peers[-1]

    yield start
    for each in peers:
        each.stop()


@pytest.fixture
def nobody() -> Iterator[str]:
    """Return an address at which nobody listens: a port that is taken, but not open."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"TCPIP0::127.0.0.1::{taken.getsockname()[1]}::SOCKET"


def generator() -> tuple[Callable[[bytes], bytes], tuple[Plug, Plug]]:
    """Return what a generator answers to a line, and its two outputs."""
    outputs = (Plug(), Plug())
    panel = Keysight33500Panel(
        "awg", BenchClock(), dict(enumerate(outputs, start=1)), None, None, memory_samples=1000
    )

    def answer(line: bytes) -> bytes:
        panel.write(line, end=True)
        reply = b""
        while chunk := panel.read(4096)[0]:
            reply += chunk
        return reply

    return answer, outputs


def rubbish(line: bytes) -> bytes:
    """Answer queries with what no manual allows."""
    return b"\x00\xffnonsense\n" if b"?" in line else b""


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_shipped_station_file_is_valid(
    form: list[str], run_here: Callable[..., Result]
) -> None:
    path = str(shipped_station_path())
    result = run_here("station", "check", path, *form)
    assert (result.returncode, result.stderr) == (0, "")
    if form:
        assert json.loads(result.stdout) == {"file": path, "valid": True, "instruments": 12}
    else:
        assert result.stdout == f"{path}: valid, 12 instruments, nothing opened\n"


def test_a_path_with_brackets_is_printed_as_it_is(
    demo_station: Path, run_here: Callable[..., Result]
) -> None:
    odd = demo_station.rename(demo_station.with_name("lab[bold]:smile:.toml"))
    result = run_here("station", "check", odd.name)
    assert result.stdout == "lab[bold]:smile:.toml: valid, 12 instruments, nothing opened\n"


def test_checking_passes_where_opening_fails(
    nobody: str, small_station: Callable[..., Path], run_here: Callable[..., Result]
) -> None:
    driver = "keysight_33512b"
    three = {"a": (driver, nobody), "b": (driver, "x"), "c": (driver, "y")}
    result = run_here("station", "check", str(small_station(three, roles=False)))
    assert (result.returncode, result.stderr) == (0, "")


def test_checking_calls_no_driver(
    monkeypatch: pytest.MonkeyPatch,
    small_station: Callable[..., Path],
    run_here: Callable[..., Result],
) -> None:
    opened: list[str] = []

    class Fake:
        @classmethod
        def open(cls, name: str, *address: str, **options: object) -> None:
            opened.append(name)

        def set_voltage(self, voltage_v: float) -> None:
            """Allow for the limits of the file."""

    monkeypatch.setattr("labctl.station.drivers.find_driver", lambda driver: Fake)
    path = small_station({"a": ("x", "1"), "b": ("x", "2"), "c": ("x", "3")}, roles=False)
    assert run_here("station", "check", str(path)).returncode == 0
    assert run_here("station", "show", str(path)).returncode == 0
    assert opened == []


@pytest.mark.parametrize("command", ["check", "show"])
def test_without_opening_no_visa_library_is_loaded(command: str, tmp_path: Path) -> None:
    script = (
        "import contextlib, sys\n"
        "from labctl.cli import main\n"
        f"sys.argv = ['labctl', 'station', '{command}', {str(shipped_station_path())!r}]\n"
        "with contextlib.suppress(SystemExit):\n    main()\n"
        "print(sorted({'pyvisa', 'serial', 'scipy', 'h5py', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=200,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[frame]", "[fram]", "unknown key 'fram'; did you mean 'frame'?"),
        ("high = 0.0225", "hihg = 0.0225", "limits.power_w.hihg'; did you mean 'high'?"),
        ('driver = "thorlabs_pm100d"', 'driver = "pm100"', "'monitor': unknown driver 'pm100'"),
        ('monitor = "monitor"', 'monitor = "eye"', "names instrument 'eye'; there are: "),
        ('name = "demo"', "name = ", "not valid TOML"),
        ("low = 0.0, high = 0.0225", "low = 1.0, high = 0.0225", "got low 1.0 and high 0.0225"),
        (
            "power_w =",
            "power_dbm =",
            "server_laser.limits.power_dbm: purephotonics_ppcl550 sets no",
        ),
    ],
)
@pytest.mark.parametrize("command", ["check", "show"])
def test_a_wrong_station_file_is_refused(
    command: str, old: str, new: str, told: str, demo_station: Path, refused: Callable[..., str]
) -> None:
    text = demo_station.read_text(encoding="utf-8")
    assert old in text
    demo_station.write_text(text.replace(old, new, 1), encoding="utf-8")
    line = refused("station", command, demo_station.name)
    assert told in line
    assert demo_station.name in line


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"demo_bench.toml@', '"gone.toml@', "demo.toml:4: there is no bench file "),
        ("ASRL3", "ASRL9", "demo.toml:37: bias_q: demo_bench.toml has no front panel at ASRL9"),
        ('attenuator = "bias_i"', 'attenuator = "monitor"', "role server.attenuator: 'monitor' "),
    ],
)
def test_checking_finds_what_would_only_fail_when_opened(
    old: str, new: str, told: str, demo_station: Path, refused: Callable[..., str]
) -> None:
    text = demo_station.read_text(encoding="utf-8")
    assert old in text
    demo_station.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert told in refused("station", "check", demo_station.name)


def test_a_station_file_that_is_not_there_is_refused(refused: Callable[..., str]) -> None:
    line = refused("station", "check", "absent.toml")
    assert line == "error: absent.toml: cannot be read (No such file or directory)"


def test_showing_lists_drivers_addresses_and_roles(run_here: Callable[..., Result]) -> None:
    result = run_here("station", "show", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert (found["name"], found["library"]) == ("demo", "demo_bench.toml@labctl")
    bias = next(row for row in found["instruments"] if row["instrument"] == "bias_i")
    assert bias == {
        "instrument": "bias_i",
        "driver": "thorlabs_mx10b",
        "address": "ASRL2::INSTR",
        "roles": "server.bias_i, server.attenuator",
        "identity": "",
    }


def test_showing_for_people_names_every_instrument(
    demo_station: Path, run_here: Callable[..., Result]
) -> None:
    result = run_here("station", "show", demo_station.name)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("demo (demo.toml)")


def test_opening_the_simulated_bench_asks_every_instrument_who_it_is(
    run_process: Callable[..., Result],
) -> None:
    result = run_process("station", "show", "--open", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    found = {row["instrument"]: row["identity"] for row in json.loads(result.stdout)["instruments"]}
    assert set(found) == set(read_station_file(shipped_station_path()).instruments)
    assert all(found.values())
    assert "33512B" in found["server_generator"]
    assert "PPCL550" in found["server_laser"]


def test_a_bench_without_a_panel_at_the_address_is_refused_by_name(
    demo_station: Path, run_here: Callable[..., Result], is_refusal: Callable[..., str]
) -> None:
    text = demo_station.read_text(encoding="utf-8")
    demo_station.write_text(text.replace("server-scope", "other-scope"), encoding="utf-8")
    line = is_refusal(run_here("station", "show", "demo.toml", "--open"), 1)
    assert "server_scope" in line
    assert "TCPIP0::other-scope::hislip0::INSTR" in line


@pytest.mark.parametrize("content", [None, "seed = 1\nsede = 2\n", "\x00"])
def test_a_bench_file_that_is_missing_or_wrong_is_refused_by_name(
    content: str | None,
    demo_station: Path,
    run_here: Callable[..., Result],
    is_refusal: Callable[..., str],
) -> None:
    bench = demo_station.with_name("demo_bench.toml")
    bench.unlink()
    if content is not None:
        bench.write_text(content)
    result = run_here("station", "show", "demo.toml", "--open")
    assert "demo_bench.toml" in is_refusal(result, result.returncode or 1)


def test_an_address_where_nobody_answers_is_told_and_the_others_are_left_safe(
    nobody: str,
    peer: Callable[..., Peer],
    small_station: Callable[..., Path],
    run_here: Callable[..., Result],
    is_refusal: Callable[..., str],
) -> None:
    answer, outputs = generator()
    answer(b"OUTP1 ON;OUTP2 ON\n")
    assert all(output.drive is not None for output in outputs)
    first, driver = peer(answer), "keysight_33512b"
    path = small_station(
        {"awg": (driver, first.address), "deaf": (driver, nobody), "last": (driver, "x")}
    )
    line = is_refusal(run_here("station", "show", str(path), "--open"), 1)
    assert line.startswith("error: deaf: ")
    assert nobody in line
    assert [output.drive for output in outputs] == [None, None]


def test_an_instrument_that_answers_rubbish_is_told_and_the_others_are_left_safe(
    peer: Callable[..., Peer],
    small_station: Callable[..., Path],
    run_process: Callable[..., Result],
    is_refusal: Callable[..., str],
) -> None:
    answer, outputs = generator()
    answer(b"OUTP1 ON;OUTP2 ON\n")
    first, mad, driver = peer(answer), peer(rubbish), "keysight_33512b"
    path = small_station(
        {"awg": (driver, first.address), "mad": (driver, mad.address), "last": (driver, "x")}
    )
    line = is_refusal(run_process("station", "show", str(path), "--open"), 1)
    assert line.startswith("error: mad: ")
    assert "nonsense" in line
    assert [output.drive for output in outputs] == [None, None]


def test_an_instrument_that_hangs_up_is_told(
    peer: Callable[..., Peer],
    small_station: Callable[..., Path],
    run_here: Callable[..., Result],
    is_refusal: Callable[..., str],
) -> None:
    def hangs_up(line: bytes) -> bytes:
        raise OSError

    rude = peer(hangs_up)
    driver = "keysight_33512b"
    path = small_station({"rude": (driver, rude.address), "b": (driver, "x"), "c": (driver, "y")})
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("limits =", "options = { timeout_s = 0.3 }\nlimits =", 1))
    line = is_refusal(run_here("station", "show", str(path), "--open"), 1)
    assert line.startswith("error: rude: ")
    assert rude.address in line


def test_an_option_that_the_driver_has_not_is_refused(
    nobody: str, small_station: Callable[..., Path], run_here: Callable[..., Result]
) -> None:
    driver = "keysight_33512b"
    path = small_station({"awg": (driver, nobody), "b": (driver, "x"), "c": (driver, "y")})
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("limits =", "options = { lode_ohm = 50 }\nlimits =", 1))
    result = run_here("station", "show", str(path), "--open")
    assert (result.returncode, result.stdout) == (2, "")
    told = f"{path.name}:6: awg: unknown option 'lode_ohm'; did you mean 'load_ohm'?"
    assert told in result.stderr
