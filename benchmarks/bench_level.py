"""Bench-level speed on the shipped station: seconds per image, and where they go.

    python benchmarks/bench_level.py [--images 5]

Everything passes through drivers, wire messages and front panels; the physics of the simulated
bench, which hardware would do for nothing, is separated from the rest by timing its captures.
"""

from __future__ import annotations

import argparse
import resource
import time

from labctl.data import shipped_station_path
from labctl.data.mnist import load_test_images
from labctl.data.models import load_network
from labctl.instruments.simulated.bench import LinkBench
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.station import Station
from labctl.station.equipment import equipment_of
from labctl.units import ratio_to_db


class Stopwatch:
    """Adds up the time spent in a method of a class."""

    def __init__(self, owner: type[LinkBench], method: str) -> None:
        self.seconds = 0.0
        inner = getattr(owner, method)

        def timed(*arguments: object) -> object:
            started = time.perf_counter()
            try:
                return inner(*arguments)
            finally:
                self.seconds += time.perf_counter() - started

        setattr(owner, method, timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5)
    count = parser.parse_args().images
    physics = Stopwatch(LinkBench, "_capture")
    network, images = load_network("noise-aware"), load_test_images().images[:count]
    with Station.read(shipped_station_path()) as station:
        client = station.table.client.constants
        server = station.table.server.constants
        chosen = SessionSettings(
            light=Light(0.57, PLAIN),
            channel=Channel(loss_db=-ratio_to_db(server.transmittance)),
            receiver=CloneReceiver(1.3, 1.0, Homodyne(client.efficiency, client.electronic_noise)),
            verifier=Homodyne(server.efficiency, 0.0),
            assumptions=Assumptions(loss=Trust.TRUSTED, technical_noise=Trust.UNTRUSTED),
            sampling=Sampling.ALL,
            seed=0,
        )
        started = time.perf_counter()
        link = BenchLink(equipment_of(station), chosen)
        session = Session(network, chosen, link)
        link.prepare(list(session.server.templates))
        session.calibrate()
        prepared = time.perf_counter() - started
        physics.seconds = 0.0
        started = time.perf_counter()
        for _ in session.run(images, batch_images=1):
            pass
        ran = time.perf_counter() - started
    print(f"preparation and shot-noise calibration  {prepared:6.2f} s")
    print(f"one image                               {ran / count:6.2f} s")
    print(f"  physics of the simulated bench        {physics.seconds / count:6.2f} s")
    print(f"  drivers, wire, panels, DSP, engine    {(ran - physics.seconds) / count:6.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
