"""`labctl infer`: what it prints and refuses, runs that are stopped, and the bench."""

from __future__ import annotations

import gzip
import json
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from infer_runs import Infer, Result, run_of, server_run_of
from safetensors.numpy import save_file

from labctl.data.models import Network, save_network
from labctl.data.run_file import read_run
from labctl.station.file import read_station_file


def test_receivers_that_are_worse_measure_worse(infer: Infer) -> None:
    ideal = infer("--sample", "measured")["F"]
    for option in (("--efficiency", "0.7"), ("--electronic-noise", "0.3")):
        assert infer("--sample", "measured", *option)["F"] < ideal
    noisy = infer("--sample", "measured", "--noise-figure-db", "4")
    assert noisy["F"] < ideal


def test_run_files_go_where_they_are_wanted(infer: Infer, tmp_path: Path) -> None:
    found = infer("--runs", "deep/down")
    assert found["run_file"].startswith("deep/down/")
    assert (tmp_path / found["run_file"]).is_file()
    assert not (tmp_path / "labctl-runs").exists()


def test_people_get_a_table_with_everything_that_matters(
    run_here: Callable[..., Result], tiny_network: str, pictures: str
) -> None:
    options = ("--model", tiny_network, "--data", pictures, "--images", "12", "--runs", "r")
    result = run_here("infer", *options)
    assert (result.returncode, result.stderr) == (0, "")
    for part in ("tiny over 12 images, mode link", "loss untrusted", "verdict", "run file"):
        assert part in result.stdout


def test_a_models_name_is_printed_as_it_is(
    run_here: Callable[..., Result], tiny_network: str, pictures: str, tmp_path: Path
) -> None:
    odd = (tmp_path / tiny_network).rename(tmp_path / "net[bold]x.safetensors")
    result = run_here("infer", "--model", odd.name, "--data", pictures, "--images", "2")
    assert (result.returncode, result.stderr) == (0, "")
    assert "net[bold]x over 2 images" in result.stdout


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--mu", "0", "--mu = 0.0: must be 1e-12 to 1e+09"),
        ("--mu", "-1", "--mu = -1.0: must be 1e-12 to 1e+09"),
        ("--mu", "nan", "--mu = nan: must be 1e-12 to 1e+09"),
        ("--mu", "inf", "--mu = inf: must be"),
        ("--gain", "1", "gain = 1.0: must be above 1"),
        ("--gain", "0.5", "gain = 0.5: must be above 1"),
        ("--gain", "-2", "gain = -2.0: must be above 1"),
        ("--gain", "nan", "gain = nan: must be above 1"),
        ("--gain", "inf", "gain = inf: must be above 1"),
        ("--images", "0", "images = 0: must be 1 to 12"),
        ("--images", "-5", "images = -5: must be 1 to 12"),
        ("--images", "13", "images = 13: must be 1 to 12"),
        ("--loss-db", "-1", "--loss-db = -1.0: must be 0 "),
        ("--loss-db", "nan", "--loss-db = nan: must be 0 "),
        ("--loss-db", "inf", "--loss-db = inf: must be 0 "),
        ("--technical-noise", "-0.1", "--technical-noise = -0.1: must be 0 to 1e+06, in SNU"),
        ("--technical-noise", "nan", "--technical-noise = nan: must be 0 to 1e+06, in SNU"),
        ("--seed", "-1", "seed = -1: must be 0 or more"),
        ("--efficiency", "0", "efficiency = 0.0: must be 1e-6 to 1"),
        ("--efficiency", "1.1", "efficiency = 1.1: must be 1e-6 to 1"),
        ("--electronic-noise", "-1", "--electronic-noise = -1.0: must be 0 to 1e+06"),
        ("--noise-figure-db", "0", "--noise-figure-db = 0.0: must be at least"),
        ("--failure-probability", "0", "--failure-probability = 0.0: must be 1e-100 to below 1"),
        ("--false-alarm-probability", "1", "--false-alarm-probability = 1.0: must be 1e-100 to"),
        ("--weights-bits-limit", "0", "--weights-bits-limit = 0.0: must be above 0 bits"),
        ("--weights-bits-limit", "inf", "--weights-bits-limit = inf: must be above 0 bits"),
        ("--return-modes", "393", "--return-modes = 393: must be 1 to 392"),
        ("--linewidth-hz", "100", "left out for the server's light as local oscillator"),
        ("--signal-linewidth-hz", "100", "left out for the server's light as local oscillator"),
        ("--data", "absent", "absent: no such folder"),
        ("--model", "noiseaware", "did you mean 'noise-aware'?"),
        ("--model", "absent.npz", "absent.npz: no such file"),
        ("--model", "pictures", "pictures: not a network; must be a file .safetensors or .npz"),
    ],
)
def test_what_cannot_be_is_refused_by_name_before_anything_is_written(
    option: str,
    value: str,
    expected: str,
    refused: Callable[..., str],
    tiny_network: str,
    pictures: str,
    tmp_path: Path,
) -> None:
    options = {"--model": tiny_network, "--data": pictures, "--images": "12", option: value}
    line = refused("infer", *(part for pair in options.items() for part in pair), "--json")
    assert expected in line
    assert not list(tmp_path.glob("labctl-runs/*"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--linewidth-hz", "-1"), "--linewidth-hz = -1.0: must be 0 or more"),
        (("--linewidth-hz", "inf"), "--linewidth-hz = inf: must be 0 or more"),
        (("--signal-linewidth-hz", "nan"), "--signal-linewidth-hz = nan: must be 0 or more"),
        (
            ("--linewidth-hz", "1e6"),
            "--linewidth-hz = 1000000.0: must be narrow enough for rows of",
        ),
        (("--receiver", "tap"), "receiver = 'tap': must be an amplifier"),
        (("--decoys", "1"), "hiding"),
    ],
)
def test_an_own_laser_that_cannot_be_is_refused_before_anything_is_written(
    options: tuple[str, ...],
    expected: str,
    refused: Callable[..., str],
    tiny_network: str,
    pictures: str,
    tmp_path: Path,
) -> None:
    given = ("--model", tiny_network, "--data", pictures, "--images", "12")
    own = ("--local-oscillator", "own", *options)
    assert expected in refused("infer", *given, *own)
    assert not list(tmp_path.glob("labctl-runs/*"))


@pytest.mark.parametrize("gain", ["1", "0.5", "-1", "nan", "inf"])
def test_a_gain_that_cannot_be_is_refused_with_a_noise_figure_too(
    gain: str, refused: Callable[..., str], tiny_network: str, pictures: str
) -> None:
    options = ("--model", tiny_network, "--data", pictures, "--images", "1", "--gain", gain)
    assert "gain = " in refused("infer", *options, "--noise-figure-db", "5")


@pytest.mark.parametrize("images", ["0", "10001"])
def test_the_shipped_images_are_10000(
    images: str,
    run_here: Callable[..., Result],
    is_refusal: Callable[..., str],
    tiny_network: str,
) -> None:
    result = run_here("infer", "--model", tiny_network, "--images", images)
    assert is_refusal(result) == f"error: --images = {images}: must be 1 to 10000"


def layers(*shapes: tuple[int, ...]) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    return {f"{depth}": np.ones(shape, np.float32) for depth, shape in enumerate(shapes)}


def write_truncated(path: Path) -> None:
    save_file(layers((8, 784)), path)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: save_file(layers((8, 784), (8,)), path), "a bias; only bias-free dense"),
        (lambda path: save_file(layers((8, 784), (10, 7)), path), "must be (outputs, 8)"),
        (lambda path: save_file(layers((8, 3, 784)), path), "must be dense, (outputs, inputs)"),
        (
            lambda path: save_file({"0": np.full((8, 784), np.nan, np.float32)}, path),
            "NaN or infinity",
        ),
        (lambda path: save_file({"0": np.zeros((8, 784), np.float32)}, path), "all zero"),
        (lambda path: save_file({"0": np.ones((8, 784), np.int32)}, path), "must be float16"),
        (lambda path: save_file({}, path), "holds no layers"),
        (write_truncated, "not a readable .safetensors file"),
        (lambda path: path.write_bytes(b""), "not a readable .safetensors file"),
        (lambda path: path.write_bytes(bytes(range(256))), "not a readable .safetensors file"),
    ],
)
def test_a_model_that_cannot_run_on_light_is_refused_by_its_file(
    write: Callable[[Path], None], expected: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    write(tmp_path / "bad.safetensors")
    line = refused("infer", "--model", "bad.safetensors", "--images", "1")
    assert line.startswith("error: bad.safetensors: ")
    assert expected in line


def test_a_network_for_other_pictures_is_refused_with_both_sizes(
    tmp_path: Path, pictures: str, refused: Callable[..., str]
) -> None:
    save_network(Network((np.ones((10, 16), np.float32),), "x", {}), tmp_path / "x.safetensors")
    line = refused("infer", "--model", "x.safetensors", "--data", pictures, "--images", "2")
    assert "784" in line
    assert "16" in line


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t10k-images-idx3-ubyte", b"\x00\x00\x08\x03\x00\x00", "truncated in its header"),
        ("t10k-images-idx3-ubyte", b"\x00\x00\x08\x01" + bytes(100), "magic number 0x00000801"),
        ("t10k-images-idx3-ubyte", None, "bytes of data; its header asks for"),
        ("t10k-labels-idx1-ubyte.gz", b"\x1f\x8b\x08\x00", "damaged gzip file"),
        # Without the time: it would be in the test's name, and differ from worker to worker.
        ("t10k-labels-idx1-ubyte.gz", gzip.compress(b"\0\0\x08\x01\0\0\0\1\x07", mtime=0), "12"),
    ],
)
def test_damaged_pictures_are_refused_by_their_file(
    name: str,
    content: bytes | None,
    expected: str,
    tmp_path: Path,
    tiny_network: str,
    pictures: str,
    refused: Callable[..., str],
) -> None:
    path = tmp_path / pictures / name
    path.write_bytes(path.read_bytes()[:-10] if content is None else content)
    line = refused("infer", "--model", tiny_network, "--data", pictures, "--images", "1")
    assert line.startswith(f"error: {pictures}/{name}")
    assert expected in line


@pytest.mark.parametrize("missing", ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"])
def test_missing_pictures_are_refused_with_the_names_that_would_do(
    missing: str, tmp_path: Path, tiny_network: str, pictures: str, refused: Callable[..., str]
) -> None:
    (tmp_path / pictures / missing).unlink()
    line = refused("infer", "--model", tiny_network, "--data", pictures, "--images", "1")
    assert missing in line


@pytest.mark.parametrize("runs", ["taken", "taken/deeper"])
def test_a_folder_for_run_files_that_cannot_be_is_a_failure(
    runs: str, tmp_path: Path, tiny_network: str, pictures: str, refused: Callable[..., str]
) -> None:
    (tmp_path / "taken").write_text("a file in its place")
    options = ("--model", tiny_network, "--data", pictures, "--images", "1", "--runs", runs)
    line = refused("infer", *options, code=1)
    assert line.startswith(f"error: {runs}: cannot be created")


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (("--loss-db", "1"), "left out for the bench link"),
        (("--loss-db", "-1"), "left out for the bench link"),
        (("--loss-db", "nan"), "left out for the bench link"),
        (("--technical-noise", "0.1"), "left out for the bench link"),
        (("--coupler-error-rad", "0.1"), "left out for the bench link"),
        (("--local-oscillator", "own"), "left out for the bench link"),
        (("--station", "absent.toml"), "absent.toml: cannot be read"),
        (("--station", "wrong.toml"), "wrong.toml:1: unknown key 'nam'; did you mean 'name'?"),
        (("--gain", "1"), "gain = 1.0: must be above 1"),
        (("--mu", "0"), "--mu = 0.0: must be 1e-12 to 1e+09"),
    ],
)
def test_what_a_bench_cannot_do_is_refused_before_it_is_opened(
    option: tuple[str, str],
    expected: str,
    tmp_path: Path,
    tiny_network: str,
    pictures: str,
    refused: Callable[..., str],
) -> None:
    (tmp_path / "wrong.toml").write_text('nam = "x"\n')
    options = ("--model", tiny_network, "--data", pictures, "--images", "1")
    assert expected in refused("infer", "--link", "bench", *options, *option)
    assert not (tmp_path / "labctl-runs").exists()


# A run of minutes, so that a signal always comes in its middle.
def long_run(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start `labctl infer` as a shell would, Ctrl-C not ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "labctl", "infer", "--runs", "runs", *options],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, previous)


def wait_for_results(
    folder: Path, run: subprocess.Popen[str], timeout_s: float
) -> tuple[Path, Path]:
    """Wait, by bounded steps, until the run's files have images in them; return both."""
    pause = threading.Event()
    for _ in range(round(timeout_s / 0.05)):
        found = sorted(folder.glob("runs/*.h5"), reverse=True)
        if found and all(path.stat().st_size and len(read_run(path).images) for path in found):
            server, client = found
            return server, client
        assert run.poll() is None, run.communicate()
        pause.wait(0.05)
    pytest.fail("no results came in time")


def wide_network(folder: Path) -> str:
    """Save a network of 784-784-10; verified, it takes minutes for all images."""
    random = np.random.default_rng(9)
    shapes = ((784, 784), (10, 784))
    weights = tuple(random.standard_normal(shape).astype(np.float32) for shape in shapes)
    save_network(Network(weights, "wide", {}), folder / "wide.safetensors")
    return "wide.safetensors"


def test_ctrl_c_ends_a_run_that_keeps_what_it_has(tmp_path: Path) -> None:
    options = ("--images", "10000", "--sample", "all", "--model", wide_network(tmp_path))
    with long_run(tmp_path, *options, "--json") as run:
        try:
            paths = wait_for_results(tmp_path, run, 60)
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=200)
        finally:
            run.kill()
    assert (run.returncode, out, err) == (130, "", "interrupted\n")
    for path in paths:
        kept = read_run(path)
        assert (kept.status, kept.reason) == ("interrupted", "Ctrl-C")
        assert kept.finished_utc is not None
        assert 0 < len(kept.images) < 10000
        assert kept.images.tolist() == list(range(len(kept.images)))
        assert kept.verification is None
    assert sorted(paths[0].parent.iterdir()) == sorted(paths)


def test_a_run_that_is_killed_keeps_what_it_has(tmp_path: Path) -> None:
    options = ("--images", "10000", "--sample", "all", "--model", wide_network(tmp_path))
    with long_run(tmp_path, *options) as run:
        try:
            paths = wait_for_results(tmp_path, run, 60)
        finally:
            run.kill()
    server, client = map(read_run, paths)
    assert (server.status, client.status) == ("interrupted", "interrupted")
    assert 0 < len(server.images) <= len(client.images) == len(client.predictions)
    # A batch of the server's light is written before it is counted.
    assert len(server.raw("evidence", "layer0")) >= len(server.images)


@pytest.mark.usefixtures("quick_calibration")
def test_the_bench_classifies_through_instruments(
    run_here: Callable[..., Result], tiny_network: str, demo_station: Path, tmp_path: Path
) -> None:
    options = ("--link", "bench", "--images", "1", "--model", tiny_network, "--json")
    result = run_here("infer", *options, "--station", demo_station.name)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert (found["link"], found["images"]) == ("bench", 1)
    rests_on = found["calibration"]
    assert len(rests_on["records"]) == 17
    assert rests_on["doubts"] == {}
    measured = rests_on["values"]["server.transmittance"]
    assert found["loss_db"] == pytest.approx(-10 * math.log10(measured["value"]))
    nominal = read_station_file(demo_station).server.constants.transmittance
    assert abs(measured["value"] - nominal) < 4.0 * measured["standard_uncertainty"]
    assert 0.0 <= found["accuracy_predicted"] <= 1.0
    assert found["verification"]["samples"] == 8 * 392 + 10 * 4
    run, client = server_run_of(found, tmp_path), run_of(found, tmp_path)
    assert run.complete
    assert client.complete
    assert client.raw_names == ()
    assert len(client.predictions) == 1
    assert run.station_text == demo_station.read_text(encoding="utf-8")
    assert set(run.settings["instruments"]) == set(read_station_file(demo_station).instruments)
    assert run.settings["calibration"]["records"] == rests_on["records"]
    assert run.settings["instruments"]["server_generator"]["model"] == "33512B"
    assert any(name.startswith("bench/") for name in run.raw_names)


def test_the_bench_does_not_run_uncalibrated_if_told_to_refuse(
    run_here: Callable[..., Result], tiny_network: str, demo_station: Path
) -> None:
    options = ("--link", "bench", "--images", "1", "--model", tiny_network, "--stale", "refuse")
    result = run_here("infer", *options, "--station", demo_station.name)
    assert (result.returncode, result.stdout) == (1, "")
    assert "half_wave_voltage missing (never measured)" in result.stderr.splitlines()[-1]


def test_a_result_on_nominal_constants_says_so(
    run_here: Callable[..., Result], tiny_network: str, demo_station: Path
) -> None:
    options = ("--link", "bench", "--images", "1", "--model", tiny_network, "--stale", "accept")
    result = run_here("infer", *options, "--station", demo_station.name, "--json")
    assert result.returncode == 0, result.stderr
    rests_on = json.loads(result.stdout)["calibration"]
    assert rests_on["records"] == {}
    assert rests_on["doubts"]["shot_noise"] == "missing (never measured)"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_on_the_bench_in_order(
    number: signal.Signals, tiny_network: str, tmp_path: Path
) -> None:
    bench = ("--link", "bench", "--stale", "accept")
    options = (*bench, "--images", "10000", "--model", tiny_network)
    with long_run(tmp_path, *options) as run:
        try:
            paths = wait_for_results(tmp_path, run, 200)
            run.send_signal(number)
            out, err = run.communicate(timeout=200)
        finally:
            run.kill()
    assert (run.returncode, out) == (128 + number, "")
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    assert [read_run(path).status for path in paths] == ["interrupted"] * 2


def test_a_disguise_of_hidden_neurons_changes_what_is_sent_and_not_what_is_found(
    infer: Infer, tmp_path: Path
) -> None:
    bright = ("--mu", "1e7")
    plain, permuted, flipped = (
        infer(*bright, *disguise)
        for disguise in (("--no-permute",), ("--permute",), ("--permute", "--signs"))
    )
    # Values run to thousands of vacuum noises: the classes are those of the exact network.
    assert plain["accuracy"] == permuted["accuracy"] == flipped["accuracy"]
    assert permuted["verification"]["accepted"] is True
    assert permuted["disguise"] == {"permute": True, "signs": False}
    runs = (run_of(found, tmp_path).measured() for found in (plain, permuted))
    first, second = (kept[0] for kept in runs if kept is not None)
    assert not np.allclose(first, second, rtol=0.01)
    assert np.allclose(np.sort(first, axis=1), np.sort(second, axis=1), rtol=0.0, atol=20.0)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_rejected_session_is_reported_whole_and_ends_with_exit_code_3(
    form: list[str], run_here: Callable[..., Result], tiny_network: str, pictures: str
) -> None:
    given = ("--model", tiny_network, "--data", pictures, "--images", "12")
    result = run_here("infer", *given, "--weights-bits-limit", "1e-9", *form)
    assert (result.returncode, result.stderr.count("error")) == (3, 0)
    if form:
        found = json.loads(result.stdout)["verification"]
        assert found["accepted"] is False
        assert "1e-09" in found["reason"]
    else:
        assert "REJECTED" in result.stdout
        assert "run file" in result.stdout
