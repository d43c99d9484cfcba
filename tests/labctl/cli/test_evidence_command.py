"""`labctl evidence`: from a run to a file that others check, and back."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evidence_runs import ID, account, begin, changed, session, verification, write_json, write_run
from infer_runs import Infer
from long_tests import long

from labctl.data.models import Network
from labctl.data.run_file import read_run

Result = subprocess.CompletedProcess[str]


def test_a_run_of_infer_is_exported_and_verified_in_both_formats(
    infer: Infer, run_here: Callable[..., Result], tmp_path: Path
) -> None:
    found = infer("--ledger", "ledger", "--client", "alice", "--images", "3")
    run = found["run_files"]["server"]
    events = json.loads(run_here("evidence", "export", run, "--format", "ocsf").stdout)
    held = events[0]["unmapped"]["labctl"]
    assert events[0]["status_code"] == "ACCEPTED"
    assert held["light"]["mean_photons"] == found["mu"]
    assert held["bits"]["prior_free"] == found["verification"]["weights_bits_prior_free_upper"]
    assert held["bits"]["cumulative"] == found["cumulative"]["bits_per_real_weight"]
    assert held["ledger_head"] == found["ledger"]["head"]["hash"]
    assert held["account"]["spent"] == found["ledger"]["spent"]
    assert held["client"] == {"name": "alice", "identity": "name alone", "fingerprint": None}
    assert set(found["leakage"]["assumptions"]["in_words"]) < set(held["assumptions"]["in_words"])
    write_json(tmp_path / "events.json", events)
    assert run_here("evidence", "verify", "events.json", "--run", run).returncode == 0

    public = run_here("evidence", "key", "signer.pem")
    (tmp_path / "signer.pub").write_text(public.stdout)
    made = run_here("evidence", "key", "pq.pem", "--algorithm", "ml-dsa-65", "--json")
    (tmp_path / "pq.pub").write_text(json.loads(made.stdout)["public_key"])
    keys = ("--key", "signer.pem", "--key", "pq.pem")
    done = run_here("evidence", "export", run, "--format", "in-toto", *keys, "--out", "e.jsonl")
    assert (done.returncode, done.stdout) == (0, "")
    shown = run_here("evidence", "verify", "e.jsonl", "--key", "signer.pub", "--key", "pq.pub")
    assert shown.returncode == 0, shown.stderr
    checked = run_here("evidence", "verify", "e.jsonl", "--key", "signer.pub", "--json")
    (only,) = json.loads(checked.stdout)["evidence"]
    assert (only["verdict"], only["other_signatures"]) == ("ACCEPTED", 1)
    assert only["session"] == held["session"]["id"]


def test_a_client_s_file_has_no_evidence_and_names_the_one_that_has(
    infer: Infer, run_here: Callable[..., Result], is_refusal: Callable[..., str]
) -> None:
    files = infer()["run_files"]
    line = is_refusal(run_here("evidence", "export", files["client"], "--format", "ocsf"), 1)
    assert "what the client got of the verdict" in line
    assert line.endswith(f"in the server's file, {Path(files['server']).name}")
    (event,) = json.loads(run_here("evidence", "export", "labctl-runs", "--format", "ocsf").stdout)
    assert event["status_code"] == "ACCEPTED"


def test_a_run_that_nobody_verified_says_so(infer: Infer, run_here: Callable[..., Result]) -> None:
    run = infer("--sample", "measured")["run_files"]["server"]
    (event,) = json.loads(run_here("evidence", "export", run, "--format", "ocsf").stdout)
    assert (event["status_code"], event["severity_id"]) == ("NOT-VERIFIED", 2)
    assert event["unmapped"]["labctl"]["bits"]["cumulative_basis"] == "everything"


def test_a_rejected_run_names_what_failed(
    run_here: Callable[..., Result], tiny_network: str, pictures: str, tmp_path: Path
) -> None:
    given = ("--model", tiny_network, "--data", pictures, "--images", "12", "--json")
    found = json.loads(run_here("infer", *given, "--weights-bits-limit", "1e-9").stdout)
    run = found["run_files"]["server"]
    result = run_here("evidence", "export", run, "--format", "ocsf")
    (event,) = json.loads(result.stdout)
    assert (result.returncode, event["status_code"], event["severity_id"]) == (0, "REJECTED", 4)
    assert event["finding_info"]["types"] == ["labctl/verdict/leakage-limit"]
    assert "1e-09" in event["message"]


def test_what_infer_writes_of_weights_and_data_is_in_no_evidence(
    infer: Infer, run_here: Callable[..., Result], tmp_path: Path
) -> None:
    found = infer()
    run = read_run(tmp_path / found["run_files"]["server"])
    run_here("evidence", "key", "k.pem")
    event = run_here("evidence", "export", str(run.path), "--format", "ocsf").stdout
    given = ("--format", "in-toto", "--key", "k.pem")
    envelope = json.loads(run_here("evidence", "export", str(run.path), *given).stdout)
    text = event + base64.b64decode(envelope["payload"]).decode()
    numbers = {part.strip('",[]{}:') for part in text.replace(":", " ").replace(",", " ").split()}
    measured = read_run(tmp_path / found["run_files"]["client"]).measured()
    assert measured is not None
    assert isinstance(run.model, Network)
    secret = [*run.model.layers, *measured]
    secret += [run.raw(*name.split("/")) for name in run.raw_names]
    values = [str(value) for array in secret for value in array.ravel().tolist() if value]
    assert len(values) > 6000
    # Sums of the light are of some hundred thousand: whole numbers that are counts may be equal.
    assert numbers.isdisjoint(value for value in values if "." in value and len(value) > 6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run.h5", "--format", "in-toto"), "--key FILE with a private key is needed to sign"),
        (("run.h5", "--format", "ocsf", "--key", "k.pem"), "OCSF events are not signed"),
        (("run.h5", "--format", "sarif"), "must be one of ocsf, in-toto"),
        (("run.h5", "--format", "ocsf", "--earlier"), "--earlier: only with --follow"),
        (("run.h5", "--format", "ocsf", "--follow"), "no such folder; --follow looks at a folder"),
        ((".", "--format", "ocsf", "--follow", "--out", "x"), "--out: not with --follow"),
        (("run.h5", "--format", "in-toto", "--key", "absent"), "the signer's key is not there"),
        (
            ("run.h5", "--format", "in-toto", "--key", "k.pem", "--key", "k.pem"),
            "--key: the same key twice",
        ),
        (
            ("run.h5", "--format", "in-toto", "--key", "k.pem", "--activity", "close"),
            "--activity: of OCSF events alone",
        ),
    ],
)
def test_what_cannot_be_exported_is_a_usage_error(
    arguments: tuple[str, ...],
    said: str,
    run_here: Callable[..., Result],
    refused: Callable[..., str],
    tmp_path: Path,
) -> None:
    write_run(tmp_path / "run.h5")
    run_here("evidence", "key", "k.pem")
    assert said in refused("evidence", "export", *arguments)


def test_a_file_that_is_no_run_is_one_line_of_error(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "run.h5").write_bytes(b"no run" * 1000)
    given = ("evidence", "export", "run.h5", "--format", "ocsf")
    assert "not a readable run file" in refused(*given, code=1)
    (tmp_path / "run.h5").unlink()
    assert "no such run file" in refused(*given, code=1)


def test_a_key_is_never_written_over(
    run_here: Callable[..., Result], refused: Callable[..., str]
) -> None:
    assert run_here("evidence", "key", "k.pem").returncode == 0
    assert "k.pem: is there already" in refused("evidence", "key", "k.pem")


def test_a_folder_is_exported_and_what_has_no_evidence_is_named(
    run_here: Callable[..., Result], tmp_path: Path
) -> None:
    write_run(tmp_path / "a.h5", record=session(account=account(spent=3.9)))
    with begin(tmp_path / "b.h5") as writer:
        writer.finish("failed")
    result = run_here("evidence", "export", ".", "--format", "ocsf")
    assert [each["status_code"] for each in json.loads(result.stdout)] == [
        "ACCEPTED",
        "NEARLY-SPENT",
    ]
    assert result.returncode == 1
    assert "no evidence: b.h5: no verdict (failed)" in result.stderr
    assert result.stderr.endswith("error: 1 run files of . have no evidence\n")


def test_changed_evidence_is_one_line_of_error(
    run_here: Callable[..., Result], refused: Callable[..., str], tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run.h5", verdict=verification(False))
    (event,) = json.loads(run_here("evidence", "export", str(run), "--format", "ocsf").stdout)
    write_json(tmp_path / "e.json", changed(event, ("severity_id",), 1))
    line = refused("evidence", "verify", "e.json", "--run", "run.h5", code=1)
    assert line == "error: e.json: evidence 1: event: severity_id: expected 4, got 1"


@pytest.mark.parametrize("number", [signal.SIGINT, *long(signal.SIGTERM)])
def test_following_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    write_run(tmp_path / "a.h5", record=session(account=account(spent=3.9)))
    with begin(tmp_path / "b.h5") as writer:
        writer.finish("failed")
    command = ["evidence", "export", ".", "--format", "ocsf", "--follow", "--earlier"]
    with subprocess.Popen(
        [sys.executable, "-m", "labctl", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        lines = [child.stdout.readline() for _ in range(2)]
        assert "no evidence: b.h5: no verdict" in child.stderr.readline()
        write_run(tmp_path / "c.h5", record=session(id="e" * 32))
        lines.append(child.stdout.readline())
        child.send_signal(number)
        rest, said = child.communicate(timeout=60)
    assert (child.returncode, rest, said) == (0, "", "")
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert [each["status_code"] for each in events] == ["ACCEPTED", "NEARLY-SPENT", "ACCEPTED"]
    assert [each["unmapped"]["labctl"]["session"]["id"] for each in events] == [ID, ID, "e" * 32]
