"""Bench measurements for a long time under random faults: wrong values, memory, descriptors.

    python benchmarks/soak.py [--minutes 10] [--seed 0] [--every 10]

One program keeps the instruments of the fleet station open, over TCP to a simulated bench in
another process, and asks questions of them, as `labctl faults table wire` does: first without a
fault, then with one that is drawn. The light drifts in real time, so that the answer without a
fault is the right one for the answer with it, and must be near the one before. Every few
questions a run of a small network on the demo's bench, opened for it, is hit by a fault drawn from
the catalogue of `labctl faults table run`. What is drawn comes from the seed; when a message comes
is the machine's.

Each line shows the time, memory (RSS) and open descriptors of program and bench, and how many
values were right, stopped by an error, and wrong. It exits with 1 on a wrong value, on a run that
is left lit, on memory that grows by more than 5 % after the first minute, and on descriptors that
grow: where the fewest at the end are more than the most of that minute. (Of less than three
minutes the first third counts.)
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import math
import os
import random
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_process import SERVE, serve, served

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.data import shipped_fleet_station_path, shipped_station_path
from labctl.errors import LabctlError
from labctl.instruments import drivers
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_file import load_bench
from labctl.instruments.simulated.faults.plan import FaultyBench, PlannedFault
from labctl.station.file import SIMULATED, StationFile, read_station_file
from labctl.studies.faults import runs
from labctl.studies.faults.catalogue import CATALOGUE
from labctl.studies.faults.wires import QUESTIONS, Question, asked, faults_of

# Enough for any answer of the bench on a machine that others use; a lost one costs all of it.
TIMEOUT_S = 2.0
# 16 MB of digits for one error: the time is better spent on the others.
SLOW = ("reply without an end",)
# How many questions are asked between two runs.
QUESTIONS_A_RUN = 20
MOST_GROWTH = 1.05
# Biases drift by some percent a minute; a wrong field is off by far more.
DRIFT = 0.1


@dataclass(frozen=True)
class Sample:
    """Memory in bytes and open descriptors of program and bench at a time in s."""

    at_s: float
    memory_bytes: tuple[int, ...]
    descriptors: tuple[int, ...]


@dataclass
class Opened:
    """An instrument with a question, its panel's name, and the last answer without a fault."""

    question: Question
    instrument: Any
    panel: str
    right: Any


def main() -> None:
    """Soak, print what is seen, and exit with 1 if anything must not be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two lines")
    given = parser.parse_args()
    logging.getLogger("labctl").setLevel(logging.CRITICAL)
    samples: list[Sample] = []
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with served(__file__) as (process_id, ports, control):
        opened = all_open(ports)
        unit = runs.shot_noise_unit(shipped_station_path())
        runs.outcome_of(shipped_station_path(), None, unit)  # what is loaded once is loaded
        start_s = next_s = time.monotonic()
        for kind, said in outcomes(random.Random(given.seed), opened, unit, control):
            counts[kind] += 1
            if kind in ("wrong", "lit"):
                wrong.append(said)
            now_s = time.monotonic()
            if now_s >= next_s:
                samples.append(sampled(now_s - start_s, process_id))
                print(line(samples[-1], counts), flush=True)
                next_s = now_s + given.every
            if now_s - start_s >= 60.0 * given.minutes:
                break
        samples.append(sampled(time.monotonic() - start_s, process_id))
    print(line(samples[-1], counts))
    problems = [*wrong, *grown(samples)]
    for problem in problems:
        print(f"FAILED: {problem}")
    sys.exit(bool(problems))


def outcomes(
    draw: random.Random,
    opened: Sequence[Opened],
    unit: ReceiverCalibration,
    control: socket.socket,
) -> Iterator[tuple[str, str]]:
    """Yield without end what comes of questions and runs: right, error, stopped, wrong or lit."""
    while True:
        for _ in range(QUESTIONS_A_RUN):
            asks = draw.choice(opened)
            yield without_fault(asks)
            yield with_fault(draw, asks, control)
        fault = draw.choice(CATALOGUE)
        found = runs.outcome_of(shipped_station_path(), fault, unit)
        said = f"run with {fault.name!r}: {found.said}"
        ending = found.ending if found.ending in ("right", "wrong") else "stopped"
        yield (ending if found.dark else "lit"), said


def without_fault(asks: Opened) -> tuple[str, str]:
    """Ask a question; its answer is the right one from now on if it is near the one before."""
    said = f"{asks.question.instrument} {asks.question.name} without a fault: "
    try:
        found: Any = asks.question.ask(asks.instrument)
    except LabctlError as error:
        return "error", f"{said}{error}"
    if not math.isclose(found, asks.right, rel_tol=DRIFT, abs_tol=asks.question.noise):
        return "wrong", f"{said}{found!r} after {asks.right!r}"
    asks.right = found
    return "right", ""


def with_fault(draw: random.Random, asks: Opened, control: socket.socket) -> tuple[str, str]:
    """Ask the same question with a fault that is drawn, and end the fault."""
    known = [each for each in faults_of(asks.question).items() if each[0] not in SLOW]
    name, fault = draw.choice(known)
    tell(control, fault.model_copy(update={"panel": asks.panel}).model_dump_json())
    answer, said = asked(asks.question, asks.instrument, asks.right)
    tell(control, "")
    return answer, f"{asks.question.instrument} {asks.question.name} with {name!r}: {said}"


def all_open(ports: dict[str, int]) -> list[Opened]:
    """Open the instruments over TCP, set them up, and ask each question without a fault."""
    table = read_station_file(shipped_fleet_station_path())
    names = {address: name for address, (name, _) in fleet(table).names.items()}
    instruments: dict[str, Any] = {}
    for name in {question.instrument: None for question in QUESTIONS}:
        own = table.instruments[name]
        address = f"TCPIP0::127.0.0.1::{ports[names[own.address]]}::SOCKET"
        options = {**own.options, "timeout_s": TIMEOUT_S}
        driver: Any = drivers.load(own.driver)
        instruments[name] = driver.open(name, address, library="", options=options)
    for question in QUESTIONS:
        question.prepare(instruments[question.instrument])
    found = []
    for question in QUESTIONS:
        instrument = instruments[question.instrument]
        panel = names[table.instruments[question.instrument].address]
        found.append(Opened(question, instrument, panel, question.ask(instrument)))
    return found


def fleet(table: StationFile) -> LinkBench:
    """Return the bench of the fleet station."""
    folder = shipped_fleet_station_path().parent
    return load_bench(folder / str(table.library).removesuffix(SIMULATED))


def sampled(at_s: float, process_id: int) -> Sample:
    """Return memory and descriptors of this process and the bench's."""
    # What only waits to be collected is no growth, and takes several megabytes at times.
    gc.collect()
    both = (os.getpid(), process_id)
    return Sample(at_s, tuple(map(memory_bytes, both)), tuple(map(descriptors, both)))


def memory_bytes(process_id: int) -> int:
    """Return the resident memory of a process (Linux)."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(process_id: int) -> int:
    """Return how many files and sockets a process has open (Linux)."""
    return len(os.listdir(f"/proc/{process_id}/fd"))


def grown(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield in words what has grown since the first minute."""
    end_s = samples[-1].at_s
    first_s = min(60.0, end_s / 3)
    early = [each for each in samples if each.at_s <= first_s]
    late = [each for each in samples if each.at_s >= end_s * 2 / 3]
    for place, name in enumerate(("program", "bench")):
        before = max(each.memory_bytes[place] for each in early)
        after = statistics.median(each.memory_bytes[place] for each in late)
        if after > MOST_GROWTH * before:
            yield f"memory of the {name} grew from {before / 1e6:.1f} to {after / 1e6:.1f} MB"
        most = max(each.descriptors[place] for each in early)
        fewest = min(each.descriptors[place] for each in late)
        if fewest > most:
            yield f"descriptors of the {name} grew from {most} to {fewest}"


def line(sample: Sample, counts: Counter[str]) -> str:
    """Return what is printed of a moment."""
    memory = " + ".join(f"{each / 1e6:.1f}" for each in sample.memory_bytes)
    open_ = " + ".join(map(str, sample.descriptors))
    stopped = counts["error"] + counts["stopped"]
    wrong = counts["wrong"] + counts["lit"]
    return (
        f"{sample.at_s:6.0f} s  {memory} MB  {open_} descriptors  "
        f"{counts['right']} right, {stopped} stopped, {wrong} wrong"
    )


def tell(control: socket.socket, fault: str) -> None:
    """Arm a fault at the bench, or end all of them; return when that is done."""
    control.sendall(fault.encode("ascii") + b"\n")
    assert control.recv(1) == b"."


async def serve_fleet() -> None:
    """Be the bench of the fleet station, with a port at which faults are armed."""
    bench = fleet(read_station_file(shipped_fleet_station_path()))
    faults = FaultyBench(bench)

    async def arm(asks: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        while fault := await asks.readline():
            faults.repair()
            if fault.strip():
                faults.arm(PlannedFault.model_validate_json(fault))
            answers.write(b".")

    await serve(bench, arm)


if __name__ == "__main__":
    if sys.argv[1:] == [SERVE]:
        asyncio.run(serve_fleet())
    else:
        main()
