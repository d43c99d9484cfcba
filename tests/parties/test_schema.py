"""What protoc makes of the schema is what is there; no message has room for a secret."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from pathlib import Path
from subprocess import run

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "parties" / "schema"
PROTO = (SCHEMA / "session.proto").read_text(encoding="utf-8")
MADE = ("session_pb2.py", "session_pb2.pyi")


def test_the_code_is_what_protoc_makes_of_the_schema(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools")
    folder = f"{tmp_path}"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT)]
    command += [f"--python_out={folder}", f"--pyi_out={folder}", "parties/schema/session.proto"]
    run(command, cwd=ROOT, check=True, timeout=60)
    made = [(tmp_path / "parties" / "schema" / name).read_text(encoding="utf-8") for name in MADE]
    there = [(SCHEMA / name).read_text(encoding="utf-8") for name in MADE]
    by = re.compile(r"Protobuf Python Version: ([\d.]+)")
    if by.findall(made[0]) != by.findall(there[0]):
        pytest.skip(f"grpcio-tools {version('grpcio-tools')} writes for another protobuf")
    assert made == there


def test_no_number_of_a_field_is_used_twice() -> None:
    for name, fields in re.findall(r"message (\w+) \{(.*?)\n\}", PROTO, re.DOTALL):
        numbers = re.findall(r" = (\d+);", fields)
        assert len(numbers) == len(set(numbers)), name


def test_every_field_of_one_value_says_whether_it_is_there() -> None:
    """But those of `Body`, one of which is there."""
    body = PROTO.split("message Body {")[1].split("\n}")[0]
    fields = re.findall(r"^ +(\w+)[\w ]* = \d+;", PROTO.replace(body, ""), re.MULTILINE)
    members = re.findall(r"^ +[A-Z_]+ = \d+;", PROTO, re.MULTILINE)
    assert len(fields) > len(members) + 40
    assert {word for word in fields if not word.isupper()} == {"optional", "repeated"}


def test_no_message_has_a_number_for_an_input_a_weight_or_what_was_measured() -> None:
    """Lists of numbers are sizes and versions; the only other numbers have their names."""
    assert re.findall(r"repeated (\w+ \w+)", PROTO) == [
        "uint32 versions",
        "uint32 sizes",
        "LayerShape shapes",
    ]
    assert set(re.findall(r"optional (?:double|float) (\w+)", PROTO)) == {
        "mean_photons",
        "emission_factor",
        "efficiency",
        "electronic_noise",
        "rotation_loss_db_per_mode",
        "rotation_error_rad",
        "signal_to_noise",
        "gain",
        "bits_per_weight_left",
        "deadline_s",
        "failure_probability",
        "false_alarm_probability",
        "weights_bits_limit",
        "transmittance_lower",
        "excess_noise_upper",
        "weights_bits_upper",
    }
