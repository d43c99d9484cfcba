"""Sweeps and trainings are signalled at random moments: do they end cleanly, and go on from there?

    python benchmarks/signals_at_any_moment.py [--trials 36] [--seed 0] [--commands sweep,…]

Commands: `sweep` (in one process), `workers` (two processes of a sweep), `train`, `record` (a
recorded sweep). Each trial starts one, waits for a random share of the time that it takes
undisturbed, and sends SIGINT, SIGTERM or SIGHUP to the process or to its whole group, as a
terminal does. It must end within 90 s, by that signal's exit code (128 + number, or by the signal
itself before it has begun), or with 0 if it was done; with nothing like a traceback, no child left,
and no file under its final name that is not whole. Then the same command is run again to its end:
its results must be those of the undisturbed run.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labctl.data.models import load_network
from labctl.studies.sweep.results_file import read_results

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A training ends after the epoch under way, the first of which is compiled.
LIMIT_S = 90.0
UNCLEAN = (
    "Traceback",
    "Exception ignored",
    "unexpected",
    "Fatal",
    "core dumped",
    "resource_tracker",
)
_SWEEP = """
name = "gain"
task = "infer"
seed = 7
repeats = 4
[settings]
model = "noise-aware"
images = 200
sample = "measured"
loss = "untrusted"
noise = "untrusted"
[axes]
gain = { first = 1.02, last = 2.0, points = 6, spacing = "log" }
"""


@dataclass(frozen=True)
class Command:
    """A command in a folder: its arguments, how it is continued, and what its files come to.

    whole: raises unless all files under their final names are whole; returns what they hold.
    """

    name: str
    arguments: Callable[[Path], Sequence[str]]
    again: Callable[[Path], Sequence[str]]
    whole: Callable[[Path], str]


def sweep(*more: str) -> Callable[[Path], Sequence[str]]:
    def arguments(folder: Path) -> Sequence[str]:
        path = folder / "gain.toml"
        path.write_text(_SWEEP)
        out = ("--out", str(folder / "gain.jsonl"), "--csv", str(folder / "gain.csv"))
        figure = ("--figure", str(folder / "gain.png"), "--x", "gain", "--y", "accuracy")
        return ("sweep", str(path), *out, *figure, *more)

    return arguments


def recorded(folder: Path) -> Sequence[str]:
    (folder / "wire.jsonl").unlink(missing_ok=True)
    return ("record", "--out", str(folder / "wire.jsonl"), "--", "labctl", *sweep()(folder))


def swept(folder: Path) -> str:
    results = read_results(folder / "gain.jsonl")
    table = folder / "gain.csv"
    if table.exists():
        assert len(table.read_text().splitlines()) == 25, "half a table"
    figure = folder / "gain.png"
    if figure.exists():
        assert figure.read_bytes().endswith(b"IEND\xaeB`\x82"), "half a figure"
    values = {key: record.values for key, record in results.records.items()}
    return json.dumps(values, sort_keys=True)


def training(folder: Path) -> Sequence[str]:
    images = folder / "pictures"
    if not images.exists():
        images.mkdir()
        drawn = np.random.default_rng(4)
        for part, count in (("train", 2000), ("t10k", 500)):
            pixels = drawn.integers(0, 256, (count, 28, 28), np.uint8).tobytes()
            labels = drawn.integers(0, 10, count, np.uint8).tobytes()
            head = struct.pack(">IIII", 0x803, count, 28, 28)
            with gzip.open(images / f"{part}-images-idx3-ubyte.gz", "wb", 1) as file:
                file.write(head + pixels)
            with gzip.open(images / f"{part}-labels-idx1-ubyte.gz", "wb", 1) as file:
                file.write(struct.pack(">II", 0x801, count) + labels)
    out = folder / "net.safetensors"
    given = ("--data", str(images), "--hidden-widths", "64", "--epochs", "12")
    return ("train", str(out), *given, "--report", str(folder / "net.json"))


def training_again(folder: Path) -> Sequence[str]:
    if (folder / "net.safetensors").exists():
        return ("runs", "list")
    resume = ("--resume",) if list(folder.glob("*.checkpoint*")) else ()
    return (*training(folder), *resume)


def trained(folder: Path) -> str:
    report = folder / "net.json"
    if report.exists():
        json.loads(report.read_text())
    for path in folder.glob("*.safetensors"):
        assert path.stat().st_size, f"{path.name} is empty"
        load_network(str(path))
    path = folder / "net.safetensors"
    if not path.exists():
        return ""
    layers = load_network(str(path)).layers
    return hashlib.sha256(b"".join(layer.tobytes() for layer in layers)).hexdigest()


COMMANDS = (
    Command("sweep", sweep(), sweep(), swept),
    Command("workers", sweep("--processes", "2"), sweep("--processes", "2"), swept),
    Command("train", training, training_again, trained),
    Command("record", recorded, recorded, swept),
)


def started(arguments: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "labctl", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "said.txt").open("w"),
        text=True,
        start_new_session=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )


def group_lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def undisturbed(command: Command) -> tuple[float, str]:
    with tempfile.TemporaryDirectory() as name:
        folder, began_s = Path(name), time.monotonic()
        process = started(command.arguments(folder), folder)
        assert process.wait() == 0, (folder / "said.txt").read_text()
        return time.monotonic() - began_s, command.whole(folder)


def trial(
    command: Command, draw: random.Random, takes_s: float, expected: str
) -> tuple[str, float]:
    """Return in words how it ended, and how long after the signal.

    Raises AssertionError where it did not end as it should.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = started(command.arguments(folder), folder)
        number, group = draw.choice(NUMBERS), draw.random() < 0.5
        moment_s = draw.uniform(0.05, takes_s)
        time.sleep(moment_s)
        where = f"{command.name}, {number.name} to the {'group' if group else 'process'}"
        where += f" after {moment_s:.2f} s of {takes_s:.2f} s"
        if process.poll() is None:
            (os.killpg if group else os.kill)(process.pid, number)
        signalled_s = time.monotonic()
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired as late:
            process.kill()
            raise AssertionError(f"{where}: has not ended after {LIMIT_S} s") from late
        lasted_s = time.monotonic() - signalled_s
        said = (folder / "said.txt").read_text()
        assert not any(word in said for word in UNCLEAN), f"{where}: exit code {code}\n{said}"
        assert code in {0, 128 + number, -number}, f"{where}: exit code {code}\n{said}"
        until_s = time.monotonic() + LIMIT_S
        while group_lives(process.pid):
            assert time.monotonic() < until_s, f"{where}: a child lives on"
            time.sleep(0.02)
        command.whole(folder)
        again = started(command.again(folder), folder)
        assert again.wait() == 0, f"{where}, continued: {(folder / 'said.txt').read_text()}"
        found = command.whole(folder)
        assert found == expected, f"{where}: other results after it was continued"
        left = [path.name for path in folder.iterdir() if path.suffix in {".part", ".checkpoint"}]
        assert not left, f"{where}: {left} left after it was continued"
        words = {0: "done before", -number: "before it began"}.get(code, "ended by the signal")
        return words, lasted_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", default=",".join(each.name for each in COMMANDS))
    options = parser.parse_args()
    for number in NUMBERS:
        signal.signal(number, signal.default_int_handler if number == 2 else signal.SIG_DFL)
    failed = 0
    for command in COMMANDS:
        if command.name not in options.commands.split(","):
            continue
        takes_s, expected = undisturbed(command)
        draw, ends = random.Random(f"{command.name} {options.seed}"), Counter[str]()
        longest_s = 0.0
        for _ in range(options.trials):
            try:
                words, lasted_s = trial(command, draw, takes_s, expected)
                ends[words] += 1
                longest_s = max(longest_s, lasted_s)
            except AssertionError as wrong:
                ends["WRONG"] += 1
                failed += 1
                print(wrong, flush=True)
        print(
            f"{command.name} ({takes_s:.1f} s): {options.trials} trials: {dict(ends)}; "
            f"ended at most {longest_s:.1f} s after the signal",
            flush=True,
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
