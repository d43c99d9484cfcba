"""`labctl client`: have a server classify one's images, over the instruments of one's own site."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl import service
from labctl.cli import options, output
from labctl.cli.choices import images_of
from labctl.cli.verdicts import REJECTED
from labctl.data.runs_folder import require_runs_folder
from labctl.dsp.pilot_variance import signal_to_noise_left
from labctl.errors import AbortedError
from labctl.instruments.transports.masking import masked
from labctl.party import Party
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.messages import AbortCode, Verdict
from labctl.safety import interruptible
from labctl.shares import share_in_words
from labctl.wording import counted

if TYPE_CHECKING:
    from labctl.parties.client_run import ClientResult

# Between two tries for the light, in s: others may need seconds for a batch.
_AGAIN_S = 1.0
# Between two lines that say what is waited for, in s: for people to read.
_SAY_AGAIN_S = 5.0


def client(
    station: Annotated[Path, typer.Argument(help="Station file with [frame] and [client].")],
    server: Annotated[str, typer.Option("--server", help="HOST:PORT of the server.")],
    identity: options.Identity,
    images: options.Images = 10,
    data: options.OptionalData = None,
    batch: Annotated[
        int,
        typer.Option("--batch", min=1, help="Images between two verdicts, 1 or more."),
    ] = 1,
    wait_s: Annotated[
        float,
        typer.Option("--wait", min=0.0, help="Seconds to wait for the light, 0 or more."),
    ] = 600.0,
    server_wait_s: Annotated[
        float,
        typer.Option("--server-wait-s", min=0.0, help="Seconds to wait for a server that starts."),
    ] = 30.0,
    ledger: options.Ledger = Path("labctl-client-ledger"),
    runs: options.Runs = Path("labctl-client-runs"),
    json: options.Json = False,
) -> None:
    """Classify images at a server that never sees them.

    Needs the extra `parties`. Images, classes and measured values stay with the client, in its run
    file. Exit code 3: the server's verdict was a rejection.
    """
    from labctl.parties.client_run import ClientRun
    from labctl.parties.grpc_client import connect_again
    from labctl.parties.server_wait import connect_when_there
    from labctl.station import Station
    from labctl.station.equipment import client_equipment_of, require_roles

    wanted = images_of(data, images)
    require_runs_folder(runs)
    site = Station.read(station)
    require_roles(site, ("client",))
    began_s = time.monotonic()
    with (
        interruptible(),
        site,
        output.progress("classifying", images, "images") as advance,
    ):

        def step(name: str) -> None:
            output.say_step(name)
            service.alive()

        def answered(count: int, verdict: Verdict) -> None:
            advance(count)
            service.alive()

        run = ClientRun(
            client_equipment_of(site),
            site.table.frame,
            Ledger(ledger, Party.CLIENT),
            runs,
            masked(station.read_text(encoding="utf-8")),
            on_step=step,
            on_batch=answered,
            again=lambda ticket: connect_again(server, identity, ticket),
        )

        def once() -> ClientResult:
            with connect_when_there(
                server, identity, patience_s=server_wait_s, on_wait=_Waiting(server)
            ) as channel:
                return run.classify(channel, wanted, batch_images=batch)

        while True:
            try:
                result = once()
                break
            except AbortedError as refused:
                passed_s = time.monotonic() - began_s
                if refused.code != AbortCode.TOO_MANY or passed_s > wait_s:
                    raise
                output.say_step(f"not now: {refused.reason}")
                time.sleep(_AGAIN_S)
    show(result, json=json)
    if result.verdict is not None and result.verdict.accepted is False:
        raise typer.Exit(REJECTED)


class _Waiting:
    """Says, now and then, that no server is there yet."""

    def __init__(self, address: str) -> None:
        self._address, self._said_s = address, -math.inf

    def __call__(self, why: str, left_s: float) -> None:
        """Say it, unless it was said a short while ago."""
        service.alive()
        now_s = time.monotonic()
        if now_s - self._said_s >= _SAY_AGAIN_S:
            self._said_s = now_s
            output.say_step(f"no server at {self._address} yet ({why}); {left_s:.0f} s to go")


def show(result: ClientResult, *, json: bool) -> None:
    """Print what was found, for people or programs."""
    verdict, agreed = result.verdict, result.agreed
    count = len(result.classes)
    assert verdict is not None
    assert agreed.terms is not None
    if json:
        output.print_json(
            {
                "classes": result.classes,
                "accuracy": result.right / count,
                "model": agreed.terms.model,
                "model_sha256": agreed.terms.model_sha256,
                "mu": agreed.mean_photons,
                "gain": agreed.gain,
                "F": agreed.terms.signal_to_noise,
                "phase_rad2": result.phase_rad2,
                "accepted": verdict.accepted,
                "reason": verdict.reason,
                "run_file": str(result.run_file),
                "transcript_sha256": result.transcript,
            }
        )
        return
    output.facts(
        f"{counted(count, 'image', 'images')} classified by {agreed.terms.model}",
        {
            "classes": " ".join(map(str, result.classes)),
            "accuracy": f"{share_in_words(result.right / count, count, 2)}, interval of 95 %",
            "setting": f"μ = {agreed.mean_photons:g}, G = {agreed.gain:g}, "
            f"F = {agreed.terms.signal_to_noise:.3g}",
            **_phases(result, agreed.terms.signal_to_noise),
            "server's verdict": f"{'accepted' if verdict.accepted else 'REJECTED'}: "
            f"{verdict.reason}",
            "run file": str(result.run_file),
            "transcript, SHA-256": result.transcript,
        },
    )


def _phases(result: ClientResult, signal_to_noise: float) -> dict[str, str]:
    """Say how well a client with its own laser knew its phases, and what that left of F."""
    if result.phase_rad2 is None:
        return {}
    left = signal_to_noise_left(signal_to_noise, result.phase_rad2)
    return {
        "local oscillator": f"its own laser: phases known to {result.phase_rad2:.3g} rad², which "
        f"leaves F = {left:.3g}"
    }
