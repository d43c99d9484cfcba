"""Sweep files: axes become points, and every fault names its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import StationFileError
from labctl.studies.sweep.sweep_file import Range, Sweep

Read = Callable[[str], Sweep]
HEAD = 'name = "x"\ntask = "leakage"\n'
MU = "[settings]\nmean_photons = 4.0\n"


def gains(sweep: Sweep) -> list[object]:
    return [point.settings["gain"] for point in sweep.points]


def test_axes_multiply_and_the_last_runs_fastest(swept: Read) -> None:
    sweep = swept(HEAD + "[axes]\nmean_photons = [1, 2.0]\ngain = [1.3, 2.0, 3.0]\n")
    assert sweep.axes == ("mean_photons", "gain")
    found = [(p.settings["mean_photons"], p.settings["gain"]) for p in sweep.points]
    assert found == [(mu, gain) for mu in (1.0, 2.0) for gain in (1.3, 2.0, 3.0)]


def test_zipped_axes_advance_together_and_the_others_multiply(swept: Read) -> None:
    axes = "[axes]\nmean_photons = [1.0, 2.0]\nmodes = [8, 16]\ngain = [1.3, 2.0]\n"
    sweep = swept(HEAD + 'zip = ["mean_photons", "gain"]\n' + axes)
    found = {
        (p.settings["mean_photons"], p.settings["gain"], p.settings["modes"]) for p in sweep.points
    }
    assert found == {(1.0, 1.3, 8), (1.0, 1.3, 16), (2.0, 2.0, 8), (2.0, 2.0, 16)}


def test_no_axes_are_one_point_and_repeats_have_seeds_of_their_own(swept: Read) -> None:
    text = 'name = "x"\ntask = "infer"\nrepeats = 3\n[settings]\nimages = 2\n'
    sweep = swept(text)
    assert [point.repeat for point in sweep.points] == [0, 1, 2]
    assert len({point.seed for point in sweep.points}) == 3


def test_ranges_hold_both_ends(swept: Read) -> None:
    linear = "[axes]\ngain = { first = 1.1, last = 1.5, points = 5 }\n"
    assert gains(swept(HEAD + MU + linear)) == [1.1, 1.2, 1.3, 1.4, 1.5]
    log = '[axes]\nmodes = { first = 1, last = 1000, points = 4, spacing = "log" }\n'
    sweep = swept(HEAD + MU + "gain = 2.0\n" + log)
    assert [point.settings["modes"] for point in sweep.points] == [1, 10, 100, 1000]


@given(
    first=st.floats(1e-9, 1e9),
    last=st.floats(1e-9, 1e9),
    points=st.integers(2, 50),
    spacing=st.sampled_from(["linear", "log"]),
)
def test_a_range_goes_one_way_from_first_to_last(
    first: float, last: float, points: int, spacing: str
) -> None:
    values = Range.model_validate(
        {"first": first, "last": last, "points": points, "spacing": spacing}
    ).values()
    numbers = [float(value) for value in values]
    assert len(numbers) == points
    assert numbers[0] == pytest.approx(first, rel=1e-11)
    assert numbers[-1] == pytest.approx(last, rel=1e-11)
    assert numbers == sorted(numbers, reverse=numbers[0] > numbers[-1])


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ('name = "x"\ntask = "leakge"\n', 2, "did you mean 'leakage'?"),
        ('name = "x"\ntask = "dance"\n', 2, "valid: infer, leakage"),
        (HEAD + "repeat = 2\n", 3, "unknown key 'repeat'; did you mean 'repeats'?"),
        (HEAD + "repeats = 0\n", 3, "greater than or equal to 1"),
        (HEAD + "repeats = 2\n" + MU + "gain = 2.0\n", 3, "leakage draws nothing"),
        (HEAD + "[settings]\nmean_photon = 4.0\n", 4, "did you mean 'mean_photons'?"),
        (HEAD + MU, 3, "setting 'gain' of leakage is missing"),
        (HEAD + MU + "gain = '2'\n", 5, "gain = '2': must be a valid number"),
        (HEAD + MU + "gain = inf\n", 5, "gain = inf: must be finite"),
        (HEAD + MU + "[axes]\ngian = [2.0]\n", 6, "did you mean 'gain'?"),
        (HEAD + MU + "gain = 2020-01-01\n", 5, "must be a number, a text, true or false"),
        (HEAD + MU + "[axes]\ngain = []\n", 6, "list of values, or a range with first"),
        (HEAD + MU + "[axes]\ngain = [1.5, nan]\n", 6, "must be finite"),
        (HEAD + MU + "[axes]\ngain = [2.0, 0.5]\n", 6, "gain = 0.5: must be above 1"),
        (HEAD + MU + "[axes]\ngain = [2.0, 2]\n", 6, "gain = 2 is there twice"),
        (HEAD + MU + "[axes]\ngain = 2.0\n", 6, "list of values, or a range with first"),
        (HEAD + MU + "[axes]\ngain = [2.0]\nmean_photons = [1.0]\n", 7, "must be one"),
        (
            HEAD + MU + "[axes.gain]\nfirst = 1.1\nlast = 2.0\npoint = 3\n",
            5,
            "unknown key 'point'; did you mean",
        ),
        (HEAD + MU + "[axes]\ngain = { first = 1.1, last = 2 }\n", 6, "points: Field required"),
        (
            HEAD + MU + '[axes]\ngain = { first = 0, last = 1, points = 3, spacing = "log" }\n',
            6,
            "above 0",
        ),
        (
            HEAD + MU + "gain = 2.0\n[axes]\nmodes = { first = 1, last = 2, points = 3 }\n",
            7,
            "modes = 1.5: must be a valid integer",
        ),
        (HEAD + 'zip = ["gian"]\n' + MU + "[axes]\ngain = [2.0]\n", 3, "did you mean 'gain'?"),
        (
            HEAD + 'zip = ["gain", "modes"]\n' + MU + "[axes]\ngain = [2.0]\nmodes = [1, 2]\n",
            3,
            "gain has 1, modes has 2",
        ),
    ],
)
def test_a_fault_names_its_line_and_what_is_valid(
    text: str, line: int, complaint: str, swept: Read, tmp_path: Path
) -> None:
    with pytest.raises(StationFileError) as caught:
        swept(text)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'sweep.toml'}:{line}: "), said
    assert complaint in said


def test_more_than_a_million_points_are_refused_before_they_are_made(swept: Read) -> None:
    axes = "".join(
        f"{name} = {{ first = 1.1, last = 2.0, points = 2000 }}\n"
        for name in ("gain", "mean_photons", "emission_factor")
    )
    with pytest.raises(StationFileError, match="8000000000 points; must be at most 1000000"):
        swept(HEAD + "[axes]\n" + axes)


def test_files_are_named_from_the_sweep_files_folder(
    swept: Read, tiny_network: str, pictures: str, tmp_path: Path
) -> None:
    settings = f'[settings]\nimages = 3\nmodel = "{tiny_network}"\ndata = "{pictures}"\n'
    point = swept('name = "x"\ntask = "infer"\n' + settings).points[0]
    assert point.settings["model"] == str(tmp_path / tiny_network)
    assert point.settings["data"] == str(tmp_path / pictures)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ('model = "lost.npz"', "no such file"),
        ('data = "lost"', "no such folder"),
        ("images = 10001", "1 to 10000"),
        ("noise_figure_db = 0.1", "quantum limit"),
        ('receiver = "tap"\nnoise_figure_db = 30.0', "1 for a tap"),
        ("weights_bits_limit = 0.0", "above 0 bits"),
        ("coupler_error_rad = -1.0", "coupler_error_rad"),
    ],
)
def test_what_no_session_would_run_is_refused_at_once(
    setting: str, complaint: str, swept: Read
) -> None:
    with pytest.raises(StationFileError, match=complaint):
        swept(f'name = "x"\ntask = "infer"\n[settings]\n{setting}\n')
