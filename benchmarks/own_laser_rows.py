"""What linewidth and row length leave of F for a client with its own laser.

`python benchmarks/own_laser_rows.py`: the simulated bench against the closed form. Each cell is a
session of a small network whose first layer has 100 rows of that number of modes; both lasers have
the linewidth. Printed: F without phase errors by the station's constants, F by the closed form, F
measured; and the phase variance by the closed form and as the receiver states it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from labctl.data import shipped_bench_path, shipped_station_path
from labctl.data.models import Network
from labctl.dsp.layout import PEAK
from labctl.dsp.pilot_variance import signal_to_noise_left
from labctl.errors import LabctlError
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.client.own_laser_receiver import OwnLaserReceiver
from labctl.protocols.disguise import PLAIN
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.station import Station
from labctl.station.equipment import equipment_of
from labctl.units import ratio_to_db

ROWS, GAIN = 100, 1.3
BENCH = """
[client_laser]
linewidth_hz = {linewidth_hz}
rin_db_hz = -150.0

[panels.client_laser]
type = "itla"
address = "ASRL9::INSTR"
laser = "client"
"""
STATION = """
[instruments.client_laser]
driver = "purephotonics_ppcl550"
address = "ASRL9::INSTR"

[client.local_oscillator]
instrument = "client_laser"
power_dbm = 13.0
wavelength_nm = 1550.0
linewidth_hz = {linewidth_hz}
signal_linewidth_hz = {linewidth_hz}
beat_hz = 34e6
highest_beat_hz = 55e6
"""


def own_laser_station(folder: Path, linewidth_hz: float) -> Path:
    """Write the demo's bench and station with a laser for the client; return the station's."""
    text = shipped_bench_path().read_text(encoding="utf-8")
    text = text.replace("[rotation]", "[rotation]\npilots_measured = true")
    text = text.replace("linewidth_hz = 100.0", f"linewidth_hz = {linewidth_hz}", 1)
    bench = folder / "demo_bench.toml"
    bench.write_text(text + BENCH.format(linewidth_hz=linewidth_hz), encoding="utf-8")
    station = folder / "demo.toml"
    text = shipped_station_path().read_text(encoding="utf-8")
    station.write_text(text + STATION.format(linewidth_hz=linewidth_hz), encoding="utf-8")
    return station


def network(modes: int) -> Network:
    """Return two layers, of which the second has few modes."""
    draw = np.random.default_rng(11)
    first = draw.normal(0.0, 1.0, (ROWS, 2 * modes)).astype(np.float32)
    second = draw.normal(0.0, 1.0, (10, ROWS)).astype(np.float32)
    return Network((first, second), "small", {})


def measured_f(net: Network, pictures: Floats, values: Floats) -> float:
    """Return F of the first layer's values: squared slope over residual variance."""
    weights = net.layers[0].astype(np.float64)
    weights /= np.sqrt(np.mean(weights**2))
    inputs = pictures.astype(np.float64)
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    x, y = (inputs @ weights.T).ravel(), values.astype(np.float64).ravel()
    slope, offset = np.polyfit(x, y, 1)
    return float(slope**2 / np.var(y - slope * x - offset))


def cell(folder: Path, *, linewidth_hz: float, modes: int, mu: float, images: int) -> str:
    """Return one row of the table."""
    path = own_laser_station(folder, linewidth_hz)
    net = network(modes)
    pictures = np.random.default_rng(12).random((images, 2 * modes), dtype=np.float32)
    with Station.read(path) as station:
        client, server = station.table.client.receiver_constants, station.table.server.constants
        settings = SessionSettings(
            light=Light(mu, PLAIN),
            channel=Channel(loss_db=-ratio_to_db(server.transmittance)),
            receiver=CloneReceiver(
                GAIN, client.emission_factor, Homodyne(client.efficiency, client.electronic_noise)
            ),
            verifier=Homodyne(server.efficiency, 0.0),
            assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
            sampling=Sampling.MEASURED,
            seed=5,
        )
        link = BenchLink(equipment_of(station), settings)
        session = Session(net, settings, link)
        link.prepare(list(session.server.templates))
        found = [batch.measured[0] for batch in session.run(pictures, batch_images=8)]
        receiver = link.receiver
        assert isinstance(receiver, OwnLaserReceiver)
        tracked, row = receiver.tracked[0], receiver.row(link.sender.layouts[0])
    before = settings.signal_to_noise
    closed = row.residual_rad2(tracked.pilot_rad2 / PEAK**2)
    left = signal_to_noise_left(before, closed + row.within_rad2)
    seen = measured_f(net, pictures, np.concatenate(found))
    return (
        f"| {linewidth_hz:g} | {modes} | {row.walk_rad2:.3f} | {closed:.4f} | "
        f"{tracked.residual_variance_rad2:.4f} | {row.within_rad2:.4f} | {before:.3f} | "
        f"{left:.3f} | {seen:.3f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mu", type=float, default=8.9, help="photons per mode")
    parser.add_argument("--images", type=int, default=24, help="images per cell")
    given = parser.parse_args()
    print("| linewidth, Hz | modes | Q | v | v stated | w | F, no phase error | F, closed | F |")
    print("|---|---|---|---|---|---|---|---|---|")
    for linewidth_hz in (100.0, 1000.0, 5000.0):
        for modes in (16, 64, 196):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    line = cell(
                        Path(folder),
                        linewidth_hz=linewidth_hz,
                        modes=modes,
                        mu=given.mu,
                        images=given.images,
                    )
                except LabctlError as error:
                    line = f"| {linewidth_hz:g} | {modes} | refused: {error} |"
            print(line, flush=True)


if __name__ == "__main__":
    main()
