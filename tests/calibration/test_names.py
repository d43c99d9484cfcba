"""Measured quantities are named in one place, and nothing else in the product spells a name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labctl.calibration import names
from labctl.errors import SettingError
from labctl.station.file import ClientConstants, ServerConstants
from labctl.studies.coverage.truths import TRUTHS, UNJUDGED

ROOT = Path(__file__).resolve().parents[2]
KINDS = {*TRUTHS, *UNJUDGED}
LISTED = [each for kind in KINDS for each in (kind if isinstance(kind, names.Family) else (kind,))]
SPELLED = {*LISTED}


def test_a_record_on_disk_has_these_names() -> None:
    """A sample of each form; records that were written before must be found by them."""
    assert names.SHOT_NOISE_V2.of("client") == "client.shot_noise_v2"
    assert names.V_PI_V.of("q") == "server.v_pi_q_v"
    assert names.BIAS_DRIFT_V_RTH.of("parent") == "server.bias_drift_parent_v_rth"
    assert names.SCOPE_OFFSET_V["client"].of(2000) == "client.scope_offset_2000mv_v"
    assert names.DRIVE_LEFT.quadrature_rad == "server.iq_quadrature_left_rad"
    assert [*names.LEG_TRANSMITTANCE] == [
        "server.forward_transmittance",
        "server.back_transmittance",
        "server.meter_transmittance",
    ]


def test_a_family_knows_its_members_alone() -> None:
    name = names.V_PI_V.of("i")
    assert name in names.V_PI_V
    assert names.V_PI_V.member(name) == "i"
    assert name not in names.BIAS_V_PI_V
    with pytest.raises(KeyError):
        names.BIAS_V_PI_V.member(name)
    with pytest.raises(SettingError, match="one of i, q"):
        names.V_PI_V.of("parent")  # type: ignore[arg-type]


def test_no_name_is_spelled_twice() -> None:
    """Each quantity of the catalogue belongs to one constant."""
    assert len(LISTED) == len(SPELLED)


@pytest.mark.parametrize(
    "field", ["efficiency", "transmittance", "v_pi_i_v", "fixed_attenuation_db", "iq_gain"]
)
def test_measured_constants_of_the_station_file_are_named_alike(field: str) -> None:
    assert field in ServerConstants.model_fields
    assert names.constant("server", field) in SPELLED


def test_measured_constants_of_the_client_are_named_alike() -> None:
    measured = {
        field
        for field in ClientConstants.model_fields
        if names.constant("client", field) in SPELLED
    }
    assert measured == {
        "phase_shifter_v_pi_v",
        "gain_per_v",
        "emission_factor",
        "efficiency",
        "electronic_noise",
        "rotation_loss_db_per_mode",
        "rotation_error_rad",
    }


def test_the_product_spells_no_name_elsewhere() -> None:
    """No string in the code is a quantity's name, whole or with a place to fill in."""
    ends = "|".join(sorted({re.escape(name.partition(".")[2]) for name in SPELLED}))
    patterns = "|".join(
        re.escape(kind.pattern.partition(".")[2]).replace(r"\{\}", r"\{\w+\}")
        for kind in KINDS
        if isinstance(kind, names.Family) and "{}" in kind.pattern.partition(".")[2]
    )
    spelled = re.compile(rf'"(server|client|\{{\w+\}})\.({ends}|{patterns})"')
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for folder in ("calibration", "protocols", "parties", "studies", "labctl", "examples")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != ROOT / "calibration" / "names.py"
        for match in spelled.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []
