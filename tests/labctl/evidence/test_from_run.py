"""The facts of a run are those of its file, all of them with assumptions, and no secret."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import h5py
import pytest
from evidence_runs import (
    CLASS,
    CLIENT_HEAD,
    FINGERPRINT,
    HEAD,
    ID,
    LABEL,
    NETWORK,
    NETWORK_SHA256,
    SECRETS,
    SERVER_FINGERPRINT,
    TRANSCRIPT,
    begin,
    check,
    leakage,
    session,
    settings,
    verification,
    write_run,
)

from labctl.data.models import Network, PublicModel
from labctl.data.run_file import read_run
from labctl.data.run_writer import RunFileWriter
from labctl.errors import EvidenceError, RunFileError
from labctl.evidence.export import EvidenceFormat, evidence_of
from labctl.evidence.facts import VerdictName
from labctl.evidence.from_run import facts_of, facts_of_file
from labctl.evidence.keys import Algorithm, EvidenceKey
from labctl.party import Party
from labctl.protocols.receiver import IDEAL_HOMODYNE, TapReceiver


def test_the_facts_are_what_the_run_file_says(tmp_path: Path) -> None:
    facts = facts_of_file(write_run(tmp_path / "run.h5"))
    assert (facts.session.id, facts.session.kind, facts.session.link) == (ID, "two-party", "mode")
    assert (facts.model.name, facts.model.sha256) == ("small", NETWORK_SHA256)
    assert facts.verdict is VerdictName.ACCEPTED
    assert [each.name for each in facts.checks] == ["pooled noise", "row noise"]
    client = facts.client
    assert (client.name, client.identity, client.fingerprint) == (
        "alice",
        "certificate",
        FINGERPRINT,
    )
    assert (facts.server_fingerprint, facts.session.party) == (SERVER_FINGERPRINT, None)
    light = facts.light
    assert (light.mean_photons, light.gain) == (0.57, 1.3)
    assert (light.transmittance_lower, light.excess_noise_upper) == (0.993, 0.0047)
    bits = facts.bits
    assert (bits.prior_free, bits.network, bits.honest) == (0.2, 0.05, 0.03)
    assert (bits.cumulative, bits.cumulative_basis) == (1.487, "collective_upper")
    assert (facts.failure_probability, facts.false_alarm_probability) == (1e-10, 1e-6)
    assert (facts.ledger_head, facts.client_ledger_head) == (HEAD, CLIENT_HEAD)
    assert facts.transcript_sha256 == TRANSCRIPT
    assert facts.builder.version == "0.1.0"
    assert facts.account is not None
    assert facts.account.spent == {"bits_per_weight": 1.0, "queries": 20.0}


def test_the_assumptions_of_every_figure_are_there(tmp_path: Path) -> None:
    assumed = facts_of_file(write_run(tmp_path / "run.h5")).assumptions
    assert (assumed.loss, assumed.technical_noise) == ("untrusted", "trusted")
    assert assumed.in_words == (
        "loss untrusted: the client may hold all light that is lost",
        "bounds in bits per weight and query: mean over the session",
        "cumulative: the client may keep states",
        "ledger: bits do not add over queries",
    )


@pytest.mark.parametrize("assumptions", [{}, {"in_words": []}, None, {"loss": "untrusted"}])
def test_a_run_without_assumptions_has_no_evidence(tmp_path: Path, assumptions: object) -> None:
    path = write_run(tmp_path / "run.h5", leaked=leakage(assumptions=assumptions))
    with pytest.raises(EvidenceError, match=r"run\.h5: no assumptions; evidence states them"):
        facts_of_file(path)


def test_a_run_without_a_verdict_has_no_evidence(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with begin(path) as writer:
        writer.finish("failed", "something")
    with pytest.raises(EvidenceError, match=r"run\.h5: no verdict \(failed\)"):
        facts_of_file(path)


def test_a_run_that_is_written_has_no_evidence_yet(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with begin(path) as writer:
        writer.set_verification(verification())
        writer.set_leakage(leakage())
        with pytest.raises(EvidenceError, match=r"run\.h5: is being written"):
            facts_of_file(path)
    assert facts_of_file(path).verdict is VerdictName.ACCEPTED


@pytest.mark.parametrize(
    ("accepted", "verdict", "failed"),
    [
        (True, VerdictName.ACCEPTED, ()),
        (False, VerdictName.REJECTED, ("pooled noise",)),
        (None, VerdictName.NOT_VERIFIED, ()),
    ],
)
def test_the_verdict_and_what_failed_are_named(
    tmp_path: Path, accepted: bool | None, verdict: VerdictName, failed: tuple[str, ...]
) -> None:
    facts = facts_of_file(write_run(tmp_path / "run.h5", verdict=verification(accepted)))
    assert (facts.verdict, facts.failed) == (verdict, failed)


def test_a_leakage_above_its_limit_is_what_failed(tmp_path: Path) -> None:
    reason = "prior-free leakage bound 0.2 bit per weight is above the limit of 0.1"
    path = write_run(
        tmp_path / "run.h5",
        verdict=verification(True) | {"accepted": False, "reason": reason},
        verification={"weights_bits_limit": 0.1},
    )
    facts = facts_of_file(path)
    assert (facts.failed, facts.reason) == (("leakage limit",), reason)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accepted": False}, "does not agree with failed checks"),
        ({"accepted": None}, "does not agree with the bounds of the light"),
        ({"checks": [check("pooled noise", passed=False)]}, "does not agree with failed checks"),
        ({"transmittance_lower": None}, "does not agree with the bounds of the light"),
        ({"accepted": "yes"}, "cannot be evidence"),
        ({"samples": -1}, r"light\.samples: "),
        ({"failure_probability": 2.0}, r"failure_probability: "),
        ({"checks": "none"}, "cannot be evidence"),
        ({"assumptions": None}, "cannot be evidence"),
        ({"weights_bits_prior_free_upper": "few"}, r"bits\.prior_free: "),
    ],
)
def test_a_verdict_that_labctl_would_not_write_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = write_run(tmp_path / "run.h5", verdict=verification() | changes)
    with pytest.raises(RunFileError, match=said):
        facts_of_file(path)


@pytest.mark.parametrize("missing", ["mean_photons", "receiver", "verification", "link"])
def test_a_setting_that_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    without: dict[str, Any] = {missing: None}
    path = write_run(tmp_path / "run.h5", **without)
    with pytest.raises(RunFileError, match=r"run\.h5: cannot be evidence"):
        facts_of_file(path)


def test_a_threshold_that_nothing_crosses_is_none(tmp_path: Path) -> None:
    checks = [check("row gain", threshold=float("inf"))]
    path = write_run(tmp_path / "run.h5", verdict=verification() | {"checks": checks})
    assert facts_of_file(path).checks[0].threshold is None


def test_the_gain_of_a_tap_is_that_of_its_amplifier(tmp_path: Path) -> None:
    tap = TapReceiver.of_gain(2.0, IDEAL_HOMODYNE)
    receiver = {"tap_transmittance": tap.tap_transmittance, "homodyne": {"efficiency": 0.9}}
    facts = facts_of_file(write_run(tmp_path / "run.h5", receiver=receiver))
    assert facts.light.gain == pytest.approx(2.0, rel=1e-12)


def test_calibration_records_are_materials(tmp_path: Path) -> None:
    records = {"shot_noise": "20261130-ab", "efficiency": "20261130-cd"}
    facts = facts_of_file(write_run(tmp_path / "run.h5", calibration={"records": records}))
    assert [(each.name, each.id) for each in facts.materials] == sorted(records.items())


def test_files_from_before_sessions_had_an_id_are_told_apart_by_their_header(
    tmp_path: Path,
) -> None:
    ids = set()
    for name in ("a.h5", "b.h5"):
        path = write_run(tmp_path / name, link="bench" if name == "a.h5" else "mode")
        with h5py.File(path, "r+") as file:
            file.attrs["format_version"] = 2
            del file["session"], file["blocks/session"], file["committed/session"]
        facts = facts_of(read_run(path))
        assert facts.session.identified_by == "header of the run file"
        assert (facts.client.name, facts.account, facts.ledger_head) == (None, None, None)
        assert facts == facts_of(read_run(path))
        ids.add(facts.session.id)
    assert len(ids) == 2


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5")
    with h5py.File(path, "r+") as file:
        file["verification"][3] ^= 1
    with pytest.raises(RunFileError, match=r"verification: rows 0 to \d+ are damaged"):
        facts_of_file(path)
    (tmp_path / "text.h5").write_text("no run")
    for name in ("text.h5", "absent.h5"):
        with pytest.raises(RunFileError, match=name):
            facts_of_file(tmp_path / name)


@pytest.mark.parametrize("accepted", [True, False, None])
def test_nothing_that_is_secret_leaves_a_run_file(tmp_path: Path, accepted: bool | None) -> None:
    path = write_run(tmp_path / "run.h5", verdict=verification(accepted))
    run = read_run(path)
    held = json.dumps([run.settings, run.station_text, run.reason, run.images.tolist()])
    held += str([run.labels, run.predictions, run.measured(), run.raw("evidence", "layer0")])
    assert isinstance(run.model, Network)
    held += str(run.model.layers)
    assert all(secret in held for secret in SECRETS)
    key = EvidenceKey.make(tmp_path / "key.pem", Algorithm.ED25519)
    events = evidence_of(path, EvidenceFormat.OCSF)
    (envelope,) = evidence_of(path, EvidenceFormat.IN_TOTO, keys=[key])
    texts = [json.dumps(events), base64.b64decode(envelope["payload"]).decode()]
    for text in texts:
        assert [secret for secret in SECRETS if secret in text] == []


def test_no_list_of_numbers_has_a_place_in_evidence(tmp_path: Path) -> None:
    def lists(value: Any) -> list[list[Any]]:
        if isinstance(value, dict):
            return [found for part in value.values() for found in lists(part)]
        if isinstance(value, list):
            return [value, *(found for part in value for found in lists(part))]
        return []

    facts = facts_of_file(write_run(tmp_path / "run.h5")).model_dump(mode="json")
    found = lists(facts)
    assert len(found) >= 3
    assert not [each for each in found for part in each if isinstance(part, int | float)]


def test_a_session_record_of_another_shape_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with begin(path) as writer:
        writer.set_verification(verification())
        writer.set_leakage(leakage())
        writer._append_document("session", {**session().model_dump(), "id": "short"})
    with pytest.raises(RunFileError, match=r"session\.id: .*expected 32 hexadecimal digits"):
        facts_of_file(path)


def test_the_file_of_the_server_alone_is_evidence(tmp_path: Path) -> None:
    """Its settings keep the light together, and it may not know the bound over all queries."""
    about = settings()
    about["light"] = {"mean_photons": about.pop("mean_photons")}
    path = tmp_path / "serve.h5"
    with writer_of(Party.SERVER, path, about, NETWORK) as writer:
        writer.append_queries(0, 20)
        writer.set_verification(verification(False))
        writer.set_leakage({key: part for key, part in leakage().items() if key != "cumulative"})
        writer.set_session(session())
    facts = facts_of_file(path)
    assert (facts.session.party, facts.light.mean_photons) == ("server", 0.57)
    bits = facts.bits
    assert (bits.cumulative, bits.cumulative_basis, bits.queries) == (None, None, 20)
    assert facts.failed == ("pooled noise",)
    assert "cumulative: the client may keep states" not in facts.assumptions.in_words


@pytest.mark.parametrize(("accepted", "failed"), [(True, ()), (False, ("not stated",)), (None, ())])
def test_the_file_of_the_client_alone_is_evidence_of_what_it_knows(
    tmp_path: Path, accepted: bool | None, failed: tuple[str, ...]
) -> None:
    """A client has the network's name, the verdict's bounds and reason, and what was agreed."""
    about = {"link": "bench", "mean_photons": 0.57, "gain": 1.3, "receiver": {"modes": 4}}
    read = accepted is not None
    verdict = {
        "accepted": accepted,
        "reason": "excess noise above the maximum",
        "transmittance_lower": 0.99 if read else None,
        "excess_noise_upper": 0.005 if read else None,
        "failure_probability": 1e-10,
    }
    path = tmp_path / "ask.h5"
    public = PublicModel("small", NETWORK_SHA256, NETWORK.sizes)
    with writer_of(Party.CLIENT, path, about, public) as writer:
        writer.append_results(0, [LABEL], [CLASS])
        writer.set_verification(verdict)
        writer.set_leakage({"assumptions": leakage()["assumptions"]})
        writer.set_session(session(account=None))
    facts = facts_of_file(path)
    assert (facts.session.party, facts.model.sha256) == ("client", NETWORK_SHA256)
    assert (facts.failed, facts.reason) == (failed, verdict["reason"])
    assert (facts.light.gain, facts.light.samples) == (1.3, None)
    assert (facts.bits.queries, facts.false_alarm_probability) == (None, None)
    (event,) = evidence_of(path, EvidenceFormat.OCSF)
    assert [secret for secret in SECRETS if secret in json.dumps(event)] == []


def writer_of(
    party: Party, path: Path, about: dict[str, Any], model: Network | PublicModel
) -> RunFileWriter:
    return RunFileWriter.create(
        path,
        settings=about,
        station_text=None,
        model=model,
        versions={"labctl": "0.1.0"},
        seed=1,
        party=party,
    )
