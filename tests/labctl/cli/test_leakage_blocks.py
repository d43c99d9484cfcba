"""Blocks of more modes than a row has are refused; a bound per query is said to be a mean."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from labctl.data.models import load_network
from labctl.errors import SettingError
from labctl.protocols.carried import require_blocks_of
from labctl.protocols.encoding import require_block_modes
from labctl.protocols.leakage import MEAN_OVER_SESSION, Assumptions, Trust
from labctl.protocols.ledger.accounts import Party
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.settings import VerificationSettings
from labctl.protocols.verification.verdict import no_verification
from labctl.run.report import verification_json
from labctl.run.setting import layer_shape, leakage_of_setting


@pytest.mark.parametrize("size", [0, -1, 393, 999])
def test_blocks_that_no_row_has_are_refused(size: int) -> None:
    with pytest.raises(SettingError, match="1 to 392"):
        require_blocks_of(load_network("noise-aware"), size)
    with pytest.raises(SettingError, match="1 to 392"):
        layer_shape(784, 392, size)


@pytest.mark.parametrize("size", [None, 1, 392])
def test_blocks_up_to_the_longest_row_are_taken(size: int | None) -> None:
    require_blocks_of(load_network("noise-aware"), size)
    require_block_modes(size, 392)


def test_a_verdict_and_its_assumptions_say_that_bits_are_a_mean() -> None:
    assert MEAN_OVER_SESSION in " ".join(Assumptions(Trust.TRUSTED, Trust.UNTRUSTED).sentences())
    found = verification_json(no_verification(VerificationSettings()))
    assert any(MEAN_OVER_SESSION in each for each in found["assumptions"])


@pytest.mark.parametrize("value", [-1.0, 1e7, 1e308, math.nan, math.inf])
def test_noise_beyond_any_receiver_is_refused(value: float) -> None:
    with pytest.raises(SettingError, match="technical_noise"):
        leakage_of_setting(
            layer_shape(10, 8),
            mean_photons=1.0,
            gain=1.3,
            loss_db=0.0,
            technical_noise=value,
            assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
            queries=1,
        )


def test_a_ledger_is_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SettingError, match="a folder"):
        Ledger(file, Party.SERVER)
    with pytest.raises(SettingError, match="a folder"):
        Ledger(tmp_path, Party.SERVER, keys=file)
