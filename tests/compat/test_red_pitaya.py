"""PyMeasure's driver of the Red Pitaya's SCPI server, unmodified, at `labctl sim serve`.

The maker's own client is a file among its examples and not packaged: nothing can install it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from labctl.instruments.simulated.doors.serving import Offer

pytest.importorskip("pymeasure", reason="PyMeasure is not installed (extra test-full)")

from pymeasure.instruments.redpitaya import RedPitayaScpi


@pytest.fixture
def board(fleet: Mapping[str, Offer], connect: Callable[..., Any]) -> Any:
    """The board at the server's receiver, over the raw socket, as the driver has it."""
    board = connect(RedPitayaScpi, fleet["fast_readout"].socket)
    board.reset()
    return board


def acquire(board: Any) -> None:
    """Take a record at once, and wait until it is complete."""
    board.acquisition_start()
    board.acq_trigger_source = "NOW"
    while not (board.acq_trigger_status and board.acq_buffer_filled):
        pass


def test_settings_are_read_back(board: Any) -> None:
    assert board.board_name == "STEMlab 125-14"
    board.acquisition_reset()
    board.decimation, board.average_skipped_samples, board.acq_units = 8, False, "RAW"
    board.ain1.gain, board.ain2.gain = "HV", "LV"
    assert (board.decimation, board.average_skipped_samples, board.acq_units) == (8, False, "RAW")
    assert (board.ain1.gain, board.ain2.gain, board.buffer_length) == ("HV", "LV", 16384)
    board.acq_trigger_level, board.acq_trigger_delay_samples = 0.25, -100
    assert (board.acq_trigger_level, board.acq_trigger_delay_samples) == (0.25, -100)
    board.acq_trigger_delay_ns = 4000
    assert board.acq_trigger_delay_ns == 4000
    board.led7.enabled, board.dioN1.direction_in, board.dioP2.enabled = True, False, True
    assert (board.led7.enabled, board.dioN1.direction_in, board.dioP2.enabled) == (
        True,
        False,
        True,
    )
    board.digital_reset()
    assert board.led7.enabled is False
    board.aoutslow0.voltage = 1.2
    assert board.ainslow0.voltage == 0.0
    board.analog_reset()
    assert board.ask("SYST:ERR:NEXT?").startswith("0,")


def test_records_get_noisier_when_the_local_oscillator_is_on(board: Any, laser: Any) -> None:
    board.decimation, board.ain1.gain = 1, "LV"
    board.acq_format, board.acq_units = "ASCII", "VOLTS"

    def record_v() -> npt.NDArray[np.float64]:
        acquire(board)
        record: npt.NDArray[np.float64] = board.ain1.get_data()
        assert record.shape == (board.buffer_length,)
        assert np.array_equal(board.ain1.get_data(npts=100), record[:100])
        return record

    lit_v = float(np.std(record_v()))
    laser.disable()
    # The deviation of 16384 samples is known to 1 %.
    assert float(np.std(record_v())) < 0.5 * lit_v
    laser.enable()
    assert board.acq_trigger_position == board.buffer_length // 2


def test_the_driver_takes_binary_records_for_native_integers_of_eight_bytes(board: Any) -> None:
    """The board sends one big-endian float for each sample: the driver returns half as many."""
    board.acq_format = "BIN"
    acquire(board)
    misread = board.ain1.get_data(format="BIN")
    assert misread.shape == (board.buffer_length // 2,)
    assert board.ain1.gain == "LV"
