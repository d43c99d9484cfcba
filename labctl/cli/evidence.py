"""`labctl evidence export|verify|key`: what sessions proved, for a security team's platform."""

from __future__ import annotations

import json as json_text
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import filterfalse
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl.cli import options, output
from labctl.errors import EvidenceError, LabctlError, RunFileError, UsageError
from labctl.evidence.export import EvidenceFormat, evidence_of
from labctl.evidence.follow import ended_runs
from labctl.evidence.from_run import is_beside_its_server_s
from labctl.evidence.keys import Algorithm, EvidenceKey, EvidencePublicKey
from labctl.evidence.ocsf import Activity
from labctl.evidence.verify import Checked, verify_file
from labctl.protocols.ledger.files import disk
from labctl.safety import interruptible
from labctl.whole_file import whole_file

app = typer.Typer(
    help="Export and verify evidence of sessions.", no_args_is_help=True, rich_markup_mode=None
)

# A person or a platform that waits for an event does not notice one second.
_LOOK_AGAIN_S = 1.0

_Keys = Annotated[
    list[Path] | None,
    typer.Option(
        "--key",
        help="File of the signer's key in PEM: to export the private one, to verify the public "
        "one. Give it twice for two keys.",
    ),
]


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run file (.h5), or a folder of them.")],
    form: Annotated[EvidenceFormat, typer.Option("--format", help="What to write.")],
    key: _Keys = None,
    activity: Annotated[
        Activity,
        typer.Option(
            "--activity", help="Why an OCSF event is sent; close: somebody has looked at it."
        ),
    ] = Activity.CREATE,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Go on with runs of the folder as they end, until Ctrl-C or SIGTERM."
        ),
    ] = False,
    earlier: Annotated[
        bool, typer.Option("--earlier", help="With --follow, begin with runs that have ended.")
    ] = False,
    out: options.OptionalOut = None,
) -> None:
    """Write what runs proved, as JSON: verdict, bounds, bits, assumptions; never weights or data.

    ocsf: an array of events (Detection Finding), not signed. in-toto: one signed statement on each
    line, which needs --key. With --follow one JSON object on a line, either way.
    """
    keys = _signers(form, key, activity)
    if follow:
        _follow(run, form, keys, activity, earlier=earlier, out=out)
        return
    if earlier:
        raise UsageError("--earlier: only with --follow")
    output.require_folder(out)
    if not run.is_dir():
        _write(evidence_of(run, form, keys=keys, activity=activity), form, out)
        return
    found: list[dict[str, Any]] = []
    refused = 0
    for path in filterfalse(is_beside_its_server_s, sorted(run.glob("*.h5"))):
        with _told() as told:
            found += evidence_of(path, form, keys=keys, activity=activity)
        refused += len(told)
    _write(found, form, out)
    if refused:
        raise EvidenceError(f"{refused} run files of {run} have no evidence")


def _signers(form: EvidenceFormat, key: list[Path] | None, activity: Activity) -> list[EvidenceKey]:
    if form is EvidenceFormat.OCSF:
        if key:
            raise UsageError("--key: OCSF events are not signed; --format in-toto is")
        return []
    if not key:
        raise UsageError(
            "--format in-toto: --key FILE with a private key is needed to sign; labctl evidence "
            "key makes one"
        )
    if activity is not Activity.CREATE:
        raise UsageError("--activity: of OCSF events alone; a statement is never sent again")
    keys = [EvidenceKey.read(path) for path in key]
    if len({each.public.fingerprint for each in keys}) < len(keys):
        raise UsageError("--key: the same key twice")
    return keys


def _follow(
    folder: Path,
    form: EvidenceFormat,
    keys: Sequence[EvidenceKey],
    activity: Activity,
    *,
    earlier: bool,
    out: Path | None,
) -> None:
    """Print evidence of runs as they end; what has none is named on stderr, once."""
    if out is not None:
        raise UsageError("--out: not with --follow, which writes to stdout")
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; --follow looks at a folder of run files")
    try:
        with interruptible():
            ended = ended_runs(folder, _wait, earlier=earlier)
            for path in filterfalse(is_beside_its_server_s, ended):
                with _told():
                    for each in evidence_of(path, form, keys=keys, activity=activity):
                        print(_line(each), flush=True)
    except KeyboardInterrupt:
        # The way to end it: nothing is left half written, since each line is written at once.
        return


def _wait() -> None:
    time.sleep(_LOOK_AGAIN_S)


@contextmanager
def _told() -> Iterator[list[LabctlError]]:
    """Print on stderr what one run file is refused for, and go on with the next."""
    told: list[LabctlError] = []
    try:
        yield told
    except (EvidenceError, RunFileError) as problem:
        told.append(problem)
        output.aside.print(f"no evidence: {problem}", soft_wrap=True)


def _line(document: Any) -> str:
    return json_text.dumps(document, allow_nan=False)


def _write(found: list[dict[str, Any]], form: EvidenceFormat, out: Path | None) -> None:
    text = _line(found) if form is EvidenceFormat.OCSF else "\n".join(map(_line, found))
    if out is None:
        print(text)
        return
    with disk("evidence"), whole_file(out) as part:
        part.write_text(text + "\n", encoding="utf-8")
    output.say_step(f"evidence in {out}: {len(found)}")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File of evidence (JSON).")],
    key: _Keys = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Run file that the evidence must be of.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Check signatures and content of evidence; exit code 1 for the first that was changed.

    With --key each statement must be signed by each key. With --run all must be what the run file
    says. An OCSF event has no signature: alone it shows only that it agrees with itself.
    """
    keys = [EvidencePublicKey.read(path) for path in key or []]
    found = verify_file(file, keys=keys, run=run)
    if json:
        output.print_json(
            {"file": str(file), "evidence": [_checked_json(each, run) for each in found]}
        )
        return
    for each in found:
        output.facts(str(file), _checked_facts(each, run))


def _checked_json(found: Checked, run: Path | None) -> dict[str, Any]:
    return {
        "format": str(found.form),
        "finding": found.finding,
        "session": found.facts.session.id,
        "verdict": str(found.facts.verdict),
        "failed": list(found.facts.failed),
        "model_sha256": found.facts.model.sha256,
        "signed_by": list(found.signed_by),
        "other_signatures": found.other_signatures,
        "compared_with_run": None if run is None else str(run),
    }


def _checked_facts(found: Checked, run: Path | None) -> dict[str, str]:
    facts = found.facts
    signed = (
        "not signed: anybody can have written it"
        if found.form is EvidenceFormat.OCSF
        else ("not checked, no key given")
    )
    return {
        "evidence": f"{found.form}, as it was written",
        "session": facts.session.id,
        "network's SHA-256": facts.model.sha256,
        "finding": found.finding,
        "verdict": f"{facts.verdict}: {facts.reason}",
        "signed by": ", ".join(found.signed_by) or signed,
        "other signatures": str(found.other_signatures),
        "run file": "not compared" if run is None else f"{run} says the same",
    }


@app.command("key")
def key_(
    file: Annotated[Path, typer.Argument(help="New file for the private key.")],
    algorithm: Annotated[
        Algorithm,
        typer.Option(
            "--algorithm", help="What it signs by; ml-dsa-65 withstands quantum computers."
        ),
    ] = Algorithm.ED25519,
    json: options.Json = False,
) -> None:
    """Make a key to sign evidence with, which only its owner may read, and print the public one."""
    with disk("signer's key"):
        try:
            made = EvidenceKey.make(file, algorithm)
        except FileExistsError as error:
            raise UsageError(f"{file}: is there already; a key is never written over") from error
    public = made.public
    if json:
        output.print_json(
            {
                "private_key": str(file),
                "public_key": public.pem,
                "algorithm": str(algorithm),
                "fingerprint": public.fingerprint,
            }
        )
        return
    # Only this goes to stdout, so that it can be written to a file.
    print(public.pem, end="")
    output.say_step(f"private key in {file}; fingerprint of the public one:")
    output.say_step(public.fingerprint)
