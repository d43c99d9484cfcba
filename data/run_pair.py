"""The files of one run that one process plays both parties of: each has what its party knows.

They are of one time and number and name each other, and nothing else of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labctl.data.models import Network, PublicModel
from labctl.data.run_file import Status
from labctl.data.run_writer import RunFileWriter, ending
from labctl.data.runs_folder import at_free_paths
from labctl.party import Party

Reason = Callable[[Party, BaseException], str]


@dataclass(frozen=True)
class RunFiles:
    """Where the files of a run are, by party."""

    server: Path
    client: Path

    def as_json(self) -> dict[str, str]:
        """Return them as plain values."""
        return {str(Party.SERVER): str(self.server), str(Party.CLIENT): str(self.client)}


class RunPair:
    """Writers of a run's two files; leaving the context records in both how the run ended.

    reason: what a party's file says of an error, as another's error may name what is not its own.
    """

    def __init__(self, server: RunFileWriter, client: RunFileWriter, reason: Reason) -> None:
        self.server = server
        self.client = client
        self._reason = reason

    @classmethod
    def start(
        cls,
        folder: Path,
        stem: str,
        *,
        settings: Callable[[Party], Mapping[str, Any]],
        station_text: str | None,
        network: Network,
        public: PublicModel,
        versions: Mapping[str, str],
        seed: int,
        reason: Reason,
    ) -> Self:
        """Start both at free paths `<UTC time>-<stem>[-<number>]-<party>.h5`, or neither.

        settings: of each party. public: the network as the client knows it. Raises RunFileError.
        """

        def writer(party: Party, path: Path, peer: Path) -> RunFileWriter:
            return RunFileWriter.create(
                path,
                settings=settings(party),
                station_text=station_text,
                model=public if party is Party.CLIENT else network,
                versions=versions,
                seed=seed,
                party=party,
                peer_file=peer.name,
            )

        def create(paths: tuple[Path, ...]) -> tuple[RunFileWriter, RunFileWriter]:
            first, second = paths
            server = writer(Party.SERVER, first, second)
            try:
                return server, writer(Party.CLIENT, second, first)
            except BaseException:
                server.discard()
                raise

        return cls(*at_free_paths(folder, stem, (Party.SERVER, Party.CLIENT), create), reason)

    @property
    def paths(self) -> RunFiles:
        """Where the run is written."""
        return RunFiles(self.server.path, self.client.path)

    def finish(self, status: Status, reasons: Callable[[Party], str]) -> None:
        """Record in both files how the run ended, unless that is there, and close them.

        reasons: what each party's file says of it.
        """
        # Where one cannot be ended, the other is all the same.
        with ExitStack() as ends:
            ends.callback(self.client.end, status, reasons(Party.CLIENT))
            ends.callback(self.server.end, status, reasons(Party.SERVER))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        status, words = ending(error)
        if error is None or status != "failed":
            self.finish(status, lambda party: words)
        else:
            self.finish(status, lambda party: self._reason(party, error))
