"""The page on evidence names every field, and its program verifies a statement."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from cryptography.exceptions import InvalidSignature
from evidence_runs import write_json, write_run
from pydantic import BaseModel

from labctl.evidence.export import EvidenceFormat, evidence_of
from labctl.evidence.facts import Facts
from labctl.evidence.keys import Algorithm, EvidenceKey
from labctl.evidence.ocsf import NEARLY_SPENT

PAGE = (Path(__file__).resolve().parents[2] / "docs/evidence.md").read_text(encoding="utf-8")


def fields(model: type[BaseModel], at: str = "") -> set[str]:
    """Return the dotted names of all fields that hold no others."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        kinds: list[Any] = [field.annotation, *get_args(field.annotation)]
        parts = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        found |= fields(parts[0], f"{at}{name}.") if parts else {f"{at}{name}"}
    return found


def test_the_page_names_every_field_and_no_other() -> None:
    section = PAGE.partition("## Fields")[2].partition("## Events")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(named) == len(set(named))
    assert set(named) == fields(Facts)


def test_the_program_of_the_page_verifies_a_statement_and_finds_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = []
    for name, algorithm in (("signer", Algorithm.ED25519), ("signer-pq", Algorithm.ML_DSA_65)):
        keys.append(EvidenceKey.make(tmp_path / f"{name}.pem", algorithm))
        (tmp_path / f"{name}.pub").write_text(keys[-1].public.pem)
    (envelope,) = evidence_of(write_run(tmp_path / "run.h5"), EvidenceFormat.IN_TOTO, keys=keys)
    write_json(tmp_path / "session.intoto.jsonl", envelope)
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "page", "exec"), {})
    assert capsys.readouterr().out == "ACCEPTED\n"
    envelope["payloadType"] = "text/plain"
    write_json(tmp_path / "session.intoto.jsonl", envelope)
    with pytest.raises(InvalidSignature):
        exec(compile(program, "page", "exec"), {})


def test_the_share_that_is_nearly_spent_is_the_pages() -> None:
    assert f"where {NEARLY_SPENT:.0%}".replace("%", " %") in PAGE
