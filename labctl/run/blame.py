"""Whose error it is that ended a run of both parties: its text may name what only its party knows.

The other party's file says what kind of error it was and whose, as a message between two processes
would, and no more. What neither party's own code raised, such as an instrument's error on the way,
is said in both files.
"""

from __future__ import annotations

import traceback

from labctl.party import Party

# Where each party's own code is; a frame of it may hold, and an error from it tell, its secrets.
_OWN_CODE = {
    Party.CLIENT: (
        "labctl.protocols.client",
        "labctl.protocols.hiding",
        "labctl.protocols.ledger.client_books",
        "labctl.protocols.verification.client_guard",
    ),
    Party.SERVER: (
        "labctl.protocols.server",
        "labctl.protocols.verification",
        "labctl.protocols.ledger.server_books",
    ),
}


def party_of_error(error: BaseException) -> Party | None:
    """Return whose code raised an error, or called what did; None where neither's did."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = f"{frame.f_globals.get('__name__', '')}."
        for party, names in _OWN_CODE.items():
            if any(module.startswith(f"{name}.") for name in names):
                return party
    return None


def reason_for(party: Party, error: BaseException, *, words: str | None = None) -> str:
    """Return what a party's file says of an error.

    words: what it says of the party's own errors, by default their kind and text.
    """
    whose = party_of_error(error)
    if whose is None or whose is party:
        return f"{type(error).__name__}: {error}" if words is None else words
    return f"{type(error).__name__} at the {whose}"
