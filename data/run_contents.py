"""What a run file of one party may hold; what is the other's is refused before a byte is written.

A server's file has the network and what came back of its light, and counts the queries. A client's
has labels, classes and measured values, and names the network. A file of both has all of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from labctl.data.models import Network, PublicModel
from labctl.errors import RunFileError
from labctl.party import Party

# Sums over the returned light by weight, and a bench's returned light: of a client, nothing yet.
_RAW_GROUPS: Mapping[Party, tuple[str, ...]] = {
    Party.SERVER: ("evidence", "bench"),
    Party.CLIENT: (),
}


def require_model(party: Party | None, model: Network | PublicModel) -> None:
    """Raise RunFileError unless a file of this party, None for both, may hold the model so."""
    if party is Party.CLIENT:
        if isinstance(model, Network):
            raise RunFileError(
                f"model {model.name}: a Network with weights; a client's file takes a PublicModel"
            )
    elif not isinstance(model, Network):
        whose = "a server's file" if party is Party.SERVER else "a file of both parties"
        raise RunFileError(f"model {model.name}: names without weights; {whose} takes a Network")


def require_results(party: Party | None) -> None:
    """Raise RunFileError unless a file may hold labels, classes and measured values."""
    if party is Party.SERVER:
        raise RunFileError(
            "labels, predictions, measured: the client's; a server's file counts queries alone"
        )


def require_raw(party: Party | None, group: str, name: str) -> None:
    """Raise RunFileError unless a file may hold a raw dataset."""
    if party is not None and group not in _RAW_GROUPS[party]:
        valid = ", ".join(f"raw/{each}/…" for each in _RAW_GROUPS[party]) or "no raw data"
        raise RunFileError(f"raw/{group}/{name}: not the {party}'s, whose file holds {valid}")
