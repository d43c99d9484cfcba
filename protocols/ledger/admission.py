"""A client proves that it holds the key that its name is bound to, before anything is reserved.

The ledger asks with a challenge: a number used once, its own head and the account. The client signs
it. A signature counts once, for the account and the ledger that asked, and in the process that
asked: the numbers are kept in memory alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from labctl.errors import IdentityError
from labctl.protocols.ledger.accounts import client_of
from labctl.protocols.ledger.signing import PublicKey, Purpose, SigningKey
from labctl.protocols.ledger.state import LedgerState

NAME_ALONE = "name alone"
# Twice the 128 bits that no one meets twice by chance.
_NONCE_BYTES = 32


@dataclass(frozen=True)
class Challenge:
    """What a client has to sign: a number used once, the ledger's head, the account."""

    nonce: str
    head: str
    account: str


@dataclass(frozen=True)
class PossessionProof:
    """A client's answer: its public key and the signature of the challenge, hexadecimal."""

    public: PublicKey
    signature: str

    @classmethod
    def of(cls, challenge: Challenge, key: SigningKey) -> PossessionProof:
        """Return the answer of someone who holds a key."""
        return cls(key.public, key.sign(Purpose.CLIENT, asdict(challenge)))


class Admissions:
    """Who has proven to one open ledger that they hold the key of an account's client."""

    def __init__(self) -> None:
        self._asked: dict[str, Challenge] = {}
        self._proven: dict[str, str] = {}

    def challenge(self, account: str, head: str) -> Challenge:
        """Return a new challenge for an account; one that was not answered is forgotten."""
        asked = Challenge(secrets.token_hex(_NONCE_BYTES), head, account)
        self._asked[account] = asked
        return asked

    def admit(self, account: str, proof: PossessionProof, state: LedgerState) -> None:
        """Take an answer to the last challenge of an account, once; raises IdentityError."""
        client = client_of(account)
        asked = self._asked.pop(account, None)
        if asked is None:
            raise IdentityError(f"client {client}: no challenge is open that this answers")
        bound = state.client_key(client)
        if bound is None:
            raise IdentityError(unbound(client))
        if proof.public.fingerprint != bound:
            raise IdentityError(
                f"client {client} is bound to the key {bound[:16]}, this is another: "
                f"{proof.public.fingerprint[:16]}"
            )
        if not proof.public.holds(proof.signature, Purpose.CLIENT, asdict(asked)):
            raise IdentityError(
                f"client {client}: the signature is not of this ledger's challenge for this account"
            )
        self._proven[account] = bound

    def require(self, accounts: Iterable[str], state: LedgerState) -> str:
        """Return how the clients of some accounts are known: by name alone, or their keys.

        Raises IdentityError for a name that is bound to a key of which nothing was proven here.
        """
        known = set()
        for account in accounts:
            client = client_of(account)
            bound = state.client_key(client)
            if bound is not None and self._proven.get(account) != bound:
                raise IdentityError(
                    f"client {client} is bound to the key {bound[:16]}, and has not shown here "
                    "that it holds it: --client-key FILE"
                )
            known.add(bound or NAME_ALONE)
        return ", ".join(sorted(known))


def unbound(client: str) -> str:
    """Return why a key is refused for a name that is bound to none."""
    return (
        f"client {client} is bound to no key in this ledger: labctl ledger add-client binds it, "
        "or leave the key out"
    )
