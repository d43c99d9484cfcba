"""What repeats from query to query on the simulated bench: collective noise against single noise.

    python benchmarks/collective_bench.py [--rows 200] [--inputs 196] [--model NAME]
        [--mu 4.0] [--gain 2.0] [--queries 10 30 100] [--fresh] [--seed 5]

An honest client and the shipped laboratory. Per number of queries R: excess noise of single
readings, of the sums by weight, and of the whole mode, with their standard errors, and the power
that repeats in every query, relative to the light sent, (eps_c - N)/((R - 1) 2 mu T) in dB, with
its one-sided 95 % limit. Bright light makes little of that visible.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

import numpy as np

from labctl.data import shipped_station_path
from labctl.data.models import Network, load_network
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.disguise import FRESH_ORDER, PLAIN
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.protocols.verification.verdict import VerificationReport
from labctl.station import Station
from labctl.station.equipment import equipment_of
from labctl.station.file import StationFile
from labctl.units import ratio_to_db

# One-sided, of a normal distribution.
_REACH_95 = 1.645


def settings_of(table: StationFile, chosen: argparse.Namespace) -> SessionSettings:
    client, server = table.client.constants, table.server.constants
    settings = SessionSettings(
        light=Light(chosen.mu, PLAIN),
        channel=Channel(loss_db=-ratio_to_db(server.transmittance)),
        receiver=CloneReceiver(
            chosen.gain,
            client.emission_factor,
            Homodyne(client.efficiency, client.electronic_noise),
        ),
        verifier=Homodyne(server.efficiency, 0.0),
        assumptions=Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED),
        sampling=Sampling.ALL,
        seed=chosen.seed,
    )
    return (
        replace(settings, light=replace(settings.light, disguise=FRESH_ORDER))
        if chosen.fresh
        else settings
    )


def network_of(chosen: argparse.Namespace) -> Network:
    if chosen.model is not None:
        return load_network(chosen.model)
    draw = np.random.default_rng(11)
    sizes = ((chosen.rows, chosen.inputs), (10, chosen.rows))
    layers = tuple(draw.normal(size=size).astype(np.float32) for size in sizes)
    return Network(layers, "random", {})


def line(report: VerificationReport, mean_photons: float) -> str:
    found, through = report.collective, report.transmittance
    assert found is not None
    assert through is not None
    whole = found.estimate - found.mean
    # What is seen of the whole mode's excess, and so its error, grows by this.
    error = found.seen_error * whole / (found.seen - found.mean) if whole else math.inf
    light = (found.queries - 1) * 2.0 * mean_photons * through
    most = (max(whole, 0.0) + _REACH_95 * abs(error)) / light
    checks = {check.name: check for check in report.checks}
    check = checks["collective noise"]
    return (
        f"{found.queries:5d} {found.mean:9.5f} {found.seen:9.5f} {found.seen_error:8.5f} "
        f"{found.estimate:9.5f} {abs(error):8.5f} {ratio_to_db(max(whole / light, 1e-12)):7.1f} "
        f"{ratio_to_db(most):7.1f}  {check.p_value:.2g}  "
        f"{', '.join(each.name for each in report.failed) or 'accepted'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--inputs", type=int, default=196)
    parser.add_argument("--model")
    parser.add_argument("--mu", type=float, default=4.0)
    parser.add_argument("--gain", type=float, default=2.0)
    parser.add_argument("--queries", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--seed", type=int, default=5)
    chosen = parser.parse_args()
    network = network_of(chosen)
    images = np.random.default_rng(12).random((max(chosen.queries), network.sizes[0]), np.float32)
    with Station.read(shipped_station_path()) as station:
        settings = settings_of(station.table, chosen)
        link = BenchLink(equipment_of(station), settings)
        session = Session(network, settings, link)
        link.prepare(list(session.server.templates))
        order = "fresh" if chosen.fresh else "fixed"
        print(f"mu {chosen.mu:g}, G {chosen.gain:g}, {order} order, {network.sizes}")
        print(
            f"{'R':>5} {'N':>9} {'seen':>9} {'error':>8} {'eps_c':>9} {'error':>8} "
            f"{'dB':>7} {'95 %':>7}  p  verdict",
            flush=True,
        )
        done = 0
        for queries in sorted(chosen.queries):
            for _ in session.run(images[done:queries], batch_images=1):
                pass
            done = queries
            print(line(session.verdict(), chosen.mu), flush=True)


if __name__ == "__main__":
    main()
