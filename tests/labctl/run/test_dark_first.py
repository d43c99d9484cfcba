"""A run that fails on a bench is dark before its files are ended."""

from __future__ import annotations

import pytest

import labctl
from labctl.run.inference import _dark_before_the_files


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_switches_the_laser_off_at_once(error: type[BaseException]) -> None:
    with labctl.simulated_station() as bench:
        bench.server_laser.set_emission(True)
        with pytest.raises(error), _dark_before_the_files(bench):
            raise error
        # What is to be said of the instruments afterwards can still be asked.
        assert bench.server_laser.emission() is False


def test_a_run_without_a_bench_has_nothing_to_switch_off() -> None:
    with pytest.raises(ValueError, match="wrong"), _dark_before_the_files(None):
        raise ValueError("wrong")


def test_what_goes_well_stays_as_it_is() -> None:
    with labctl.simulated_station() as bench:
        bench.server_laser.set_emission(True)
        with _dark_before_the_files(bench):
            pass
        assert bench.server_laser.emission() is True
