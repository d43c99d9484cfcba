"""The maker's own client of the Red Pitaya, unmodified, at the socket of `labctl sim serve`.

It is one file of the maker's examples and not packaged. `python .ci/red_pitaya_client.py` fetches
it and prints where; LABCTL_RED_PITAYA_CLIENT tells these tests.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.instruments.simulated.doors.serving import Offer

CLIENT = os.environ.get("LABCTL_RED_PITAYA_CLIENT", "")
READS: tuple[dict[str, Any], ...] = (
    {},
    {"start": 100, "end": 199},
    {"start": 16000, "num_samples": 100},
    {"num_samples": 100, "old": True},
    {"num_samples": 100, "latest": True},
)

pytestmark = pytest.mark.skipif(
    not CLIENT,
    reason="LABCTL_RED_PITAYA_CLIENT does not name the maker's redpitaya_scpi.py",
)


@pytest.fixture(scope="module")
def maker() -> Any:
    """The module of the maker's client."""
    spec = importlib.util.spec_from_file_location("redpitaya_scpi", Path(CLIENT))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def board(maker: Any, fleet: Mapping[str, Offer]) -> Iterator[Any]:
    """The board at the server's receiver; no error waits in the end."""
    address = fleet["fast_readout"].socket
    assert address is not None
    port = int(address.split("::")[2])
    with maker.scpi("127.0.0.1", timeout=20.0, port=port) as board:
        board.rst()
        board.cls()
        yield board
        assert board.err_n() == '0,"No error"'


def acquire(board: Any, source: Any) -> None:
    """Take a record, and wait until it is complete."""
    board.acq_start()
    board.acq_arm(source)
    while board.txrx_txt("ACQ:TRig:STAT?") != "TD":
        pass
    while board.txrx_txt("ACQ:TRig:FILL?") != "1":
        pass


def test_the_board_tells_what_it_is_and_keeps_its_clock(board: Any) -> None:
    assert board.idn_q().startswith("REDPITAYA,")
    assert board.board_info()[1] == "STEMlab 125-14"
    board.board_set_date_time("2026-03-04", "05:06:07.5")
    assert board.board_get_date_time().startswith("2026-03-04 05:06:")
    assert board.analog_get_data().tolist() == [0.0] * 4
    board.ese(32)
    assert (board.ese_q(), board.opc_q(), board.err_c()) == ("32", "1", "0")


def test_every_waveform_is_set_and_read_back(maker: Any, board: Any) -> None:
    for waveform in maker.Waveform:
        board.gen_set(
            2,
            waveform,
            ampl=0.5,
            freq=2e4,
            offset=-0.25,
            phase=45,
            dcyc=0.2,
            data=np.sin(np.linspace(0.0, 6.28, 64)),
        )
        function, *numbers = board.gen_get_settings(2)
        duty = 0.2 if waveform.value in ("PWM", "ARBITRARY", "DC", "DC_NEG") else 0.5
        assert function == waveform.value
        assert [float(n) for n in numbers] == [0.5, 2e4, -0.25, 45.0, duty]


def test_triggers_bursts_and_sweeps_are_set_and_read_back(maker: Any, board: Any) -> None:
    board.gen_trig_set(1, maker.TriggerSource.EXT_PE, ext_trig_deb_us=20)
    assert board.gen_get_trig_settings(1) == ["EXT_PE", "20"]
    board.gen_burst_set(1, ncyc=3, nor=2, period=400, init_val=0.1, last_val=-0.1)
    assert board.gen_get_burst_settings(1) == ["BURST", "3", "2", "400", "0.1", "-0.1"]
    board.gen_burst_mode(1, False)
    board.gen_sweep_set(
        1, 1000, 5000, 250, maker.SweepMode.LOG, maker.SweepDirection.UP_DOWN, rep_count=4
    )
    assert board.gen_get_sweep_settings(1) == ["ON", "1000", "5000", "250", "LOG", "UP_DOWN"]
    board.gen_sweep_state(1, False)


def test_acquisition_settings_are_read_back(maker: Any, board: Any) -> None:
    gains = [maker.Gain.HV, maker.Gain.LV]
    board.acq_set(64, maker.Units.RAW, maker.DataFormat.BIN, averaging=False, gain=gains)
    assert board.acq_get_settings() == ["64", "OFF", "RAW", "BIN", "16384", "HV", "LV"]
    board.acq_trig_set(0.25, 5120, trig_delay_ns=True, trig_hyst=0.01, ext_trig_deb_us=40)
    assert board.acq_get_trig_settings() == ["10", "5120", "0.25", "0.01", "40"]
    board.acq_data_byte_order_set(maker.ByteOrder.LEND)
    assert board.acq_data_byte_order_get() == "LEND"


def test_one_record_reads_the_same_in_every_format(maker: Any, board: Any, laser: Any) -> None:
    board.acq_set(1, gain=[maker.Gain.LV, maker.Gain.LV])
    acquire(board, maker.AcqTrigSource.NOW)
    whole_v = board.acq_data(1)
    assert np.std(whole_v) > 0
    slices = (slice(None), slice(100, 200), slice(16000, 16100), slice(100), slice(-100, None))
    for units, form, order in (
        (maker.Units.VOLTS, maker.DataFormat.BIN, maker.ByteOrder.BEND),
        (maker.Units.VOLTS, maker.DataFormat.BIN, maker.ByteOrder.LEND),
        (maker.Units.RAW, maker.DataFormat.ASCII, maker.ByteOrder.BEND),
        (maker.Units.RAW, maker.DataFormat.BIN, maker.ByteOrder.LEND),
    ):
        board.acq_set_units_format(units, form)
        board.acq_data_byte_order_set(order)
        volts_per_unit = 1.0 if units is maker.Units.VOLTS else 1.0 / 8192
        for where, read in zip(slices, READS, strict=True):
            assert board.acq_data(1, **read) * volts_per_unit == pytest.approx(
                whole_v[where], abs=2e-6
            )


def test_samples_are_read_around_the_trigger(maker: Any, board: Any, laser: Any) -> None:
    acquire(board, maker.AcqTrigSource.NOW)
    whole_v = board.acq_data(1)
    for place, where in (
        (maker.DataTriggerPosition.PRE_TRIG, slice(8142, 8193)),
        (maker.DataTriggerPosition.POST_TRIG, slice(8192, 8243)),
        (maker.DataTriggerPosition.PRE_POST_TRIG, slice(8142, 8243)),
    ):
        assert np.array_equal(board.acq_data(1, num_samples=50, trig_pos=place), whole_v[where])


def test_the_light_is_in_the_trace(
    maker: Any, board: Any, laser: Any, patiently: Callable[..., None]
) -> None:
    board.acq_set(1, maker.Units.VOLTS, maker.DataFormat.BIN, gain=[maker.Gain.LV, maker.Gain.LV])
    acquire(board, maker.AcqTrigSource.NOW)
    lit_v = float(np.std(board.acq_data(1)))
    laser.disable()
    acquire(board, maker.AcqTrigSource.NOW)
    # The deviation of 16384 samples is known to 1 %.
    assert float(np.std(board.acq_data(1))) < 0.5 * lit_v
    laser.enable()
    patiently(laser.set_power, 13.0)
    board.acq_stop()
