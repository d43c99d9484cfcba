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
from own_laser import found_signal_to_noise, own_laser_station

from labctl.data.models import Network
from labctl.dsp.layout import PEAK
from labctl.dsp.pilot_variance import signal_to_noise_left
from labctl.errors import LabctlError
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.client.own_laser_receiver import OwnLaserReceiver
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.station import Station
from labctl.station.equipment import equipment_of
from labctl.units import ratio_to_db

ROWS, GAIN = 100, 1.3
# Of a narrower detector than the tests': the table's.
HIGHEST_BEAT_HZ = 55e6


def network(modes: int) -> Network:
    """Return two layers, of which the second has few modes."""
    draw = np.random.default_rng(11)
    first = draw.normal(0.0, 1.0, (ROWS, 2 * modes)).astype(np.float32)
    second = draw.normal(0.0, 1.0, (10, ROWS)).astype(np.float32)
    return Network((first, second), "small", {})


def cell(folder: Path, *, linewidth_hz: float, modes: int, mu: float, images: int) -> str:
    """Return one row of the table."""
    path = own_laser_station(
        folder,
        linewidth_hz=linewidth_hz,
        signal_linewidth_hz=linewidth_hz,
        highest_beat_hz=HIGHEST_BEAT_HZ,
    )
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
    seen = found_signal_to_noise(net, pictures, np.concatenate(found))
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
