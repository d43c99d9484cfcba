"""The shipped fleet bench behind its doors, for drivers that were not written for it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from labctl.data import shipped_fleet_path
from labctl.instruments.simulated.doors.serving import Offer

Connect = Callable[..., Any]


def bench_file(folder: Path) -> Path:
    """Write the shipped fleet, where the parent's bias controller acknowledges as PyMeasure reads.

    The others acknowledge every command that sets something, as the manual has it.
    """
    text = shipped_fleet_path().read_text(encoding="utf-8")
    head = "[panels.bias_parent]\n"
    assert text.count(head) == 1
    path = folder / "fleet.toml"
    path.write_text(text.replace(head, head + 'ack = "pymeasure"\n'), encoding="utf-8")
    return path


def announced(process: subprocess.Popen[str]) -> Iterator[Offer]:
    """Yield what is offered until the bench is ready, which takes a minute at most."""
    assert process.stdout is not None
    guard = threading.Timer(60.0, process.kill)
    guard.start()
    try:
        for line in process.stdout:
            if line == '{"ready": true}\n':
                return
            yield Offer(**json.loads(line))
    finally:
        guard.cancel()
    raise AssertionError("the bench did not become ready")


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Offer]]:
    """Serve the fleet in a separate process; tells where each instrument is, by its name."""
    path = bench_file(tmp_path_factory.mktemp("bench"))
    process = subprocess.Popen(
        [sys.executable, "-m", "labctl", "sim", "serve", str(path), "--json"],
        cwd=path.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        yield {offer.name: offer for offer in announced(process)}
        process.terminate()
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Open a PyMeasure driver at an address; closed in the end."""
    opened: list[Any] = []

    def open_driver(driver: Connect, address: str | None) -> Any:
        instrument = driver(address, visa_library="@py")
        opened.append(instrument)
        return instrument

    yield open_driver
    for instrument in opened:
        instrument.adapter.close()


@pytest.fixture(scope="module")
def laser(fleet: Mapping[str, Offer]) -> Iterator[Any]:
    """The laser of the link in the hands of pytla: on, at 13 dBm and 193.4 THz."""
    itla = pytest.importorskip("itla", reason="pytla is not installed (extra test-full)")
    laser = itla.PPLaser(fleet["server_laser"].pty)
    laser.connect()
    laser.set_power(13.0)
    laser.set_frequency(193.4)
    laser.enable()
    yield laser
    laser.disconnect()


@pytest.fixture
def meter(fleet: Mapping[str, Offer], connect: Connect) -> Any:
    """The power meter on the tap behind the modulator."""
    from pymeasure.instruments.thorlabs import ThorlabsPM100USB

    return connect(ThorlabsPM100USB, fleet["monitor"].hislip)


@pytest.fixture
def patiently() -> Callable[..., None]:
    """Repeat a command of pytla while the module ignores it for what is pending, 20 s at most.

    pytla has no other word for a pending operation.
    """
    from itla.itla_errors import CIPError

    def repeat(command: Callable[..., None], *arguments: float) -> None:
        last = time.monotonic() + 20.0
        while True:
            try:
                command(*arguments)
            except CIPError:
                if time.monotonic() > last:
                    raise
                time.sleep(0.02)
            else:
                return

    return repeat
