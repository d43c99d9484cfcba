"""Records of both parties for a routine: taken, synchronised, and in fitting ranges."""

from __future__ import annotations

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.names import Party
from labctl.dsp.dsp import Sync, synchronise
from labctl.dsp.layout import FrameLayout
from labctl.dsp.recorder import FIRST_RANGE_V
from labctl.errors import CalibrationError, InstrumentTimeoutError, SynchronisationError
from labctl.instruments.capabilities import Trace

PARTIES: tuple[Party, Party] = ("server", "client")


def record(
    bench: CalibrationBench, parties: tuple[Party, ...], duration_s: float
) -> dict[Party, Trace]:
    """Return records as `CalibrationBench.record`; a trigger that never comes says so."""
    try:
        return bench.record(parties, duration_s)
    except InstrumentTimeoutError as error:
        raise CalibrationError(
            f"no record came ({error}): is the trigger cable connected from the server's generator "
            f"to {' and '.join(parties)}'s digitizer?"
        ) from error


def sync_of(bench: CalibrationBench, party: Party, trace: Trace, layout: FrameLayout) -> Sync:
    """Find the frame in a party's record; raises CalibrationError that names the party."""
    try:
        return synchronise(trace, layout, bench.equipment.frame.longest_delay_s)
    except SynchronisationError as error:
        raise CalibrationError(f"{party}: {error}") from error


def reset_ranges(bench: CalibrationBench) -> None:
    """Set both ranges to the one that a recorder begins with."""
    for recorder in bench.recorders.values():
        recorder.range_v = FIRST_RANGE_V


def fit_ranges(
    bench: CalibrationBench,
    parties: tuple[Party, ...],
    duration_s: float,
    *,
    rounds: int,
    kept: int = 1,
    headroom: float = 1.0,
) -> list[dict[Party, Trace]]:
    """Fit ranges from the first one on, and return the records that this took.

    rounds: how many records; each sets the range of the next. kept: of the last `kept` rounds the
    largest range stays, since the phase of the moment decides how large a record is. headroom:
    factor on the range that stays.
    """
    for party in parties:
        bench.recorders[party].range_v = FIRST_RANGE_V
    taken = []
    largest = dict.fromkeys(parties, 0.0)
    for left in reversed(range(rounds)):
        taken.append(record(bench, parties, duration_s))
        for party, trace in taken[-1].items():
            bench.recorders[party].fit_range(trace)
            if left < kept:
                largest[party] = max(largest[party], bench.recorders[party].range_v)
    for party in parties:
        bench.recorders[party].range_v = largest[party] * headroom
    return taken
