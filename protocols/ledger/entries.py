"""The entries of a ledger: budgets, reservations, and what became of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from labctl.protocols.ledger.accounts import Party
from labctl.protocols.ledger.amounts import Meter

Identifier = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# An Ed25519 key as SubjectPublicKeyInfo in DER is 44 bytes (RFC 8410), a signature 64 (RFC 8032).
PublicDer = Annotated[str, Field(pattern=r"^[0-9a-f]{88}$")]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
Account = Annotated[str, Field(min_length=1)]
Quantities = dict[Meter, Annotated[float, Field(ge=0.0, le=1e12)]]
Postings = dict[Account, Quantities]


class _Entry(BaseModel):
    """What every entry says: its number, when it was made, and the hash of the one before."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    number: Annotated[int, Field(ge=1)]
    time: AwareDatetime
    previous: Digest


class OperatorsEntry(_Entry):
    """What the operator may sign: all that the entry says but the signature itself."""

    signature: Signature | None = None

    @property
    def signed_content(self) -> dict[str, Any]:
        """What the signature is of."""
        return self.model_dump(mode="json", exclude={"signature"})


class Opened(_Entry):
    """The first entry: whose ledger it is, and its operator's public key; a client's has none."""

    kind: Literal["opened"] = "opened"
    party: Party
    format_version: Literal[1] = 1
    operator: PublicDer | None = None


class OperatorNamed(_Entry):
    """The operator's public key in a ledger from before there was one."""

    kind: Literal["operator"] = "operator"
    operator: PublicDer


class ClientBound(OperatorsEntry):
    """A client's name is bound to a key, by its fingerprint, in place of the one it had."""

    kind: Literal["client"] = "client"
    client: Annotated[str, Field(min_length=1)]
    fingerprint: Digest
    replaces: Digest | None


class BudgetSet(OperatorsEntry):
    """New limits of one account, or of all that have none (`any`); no limits: no budget.

    Signed by the operator where a limit is raised or removed.
    """

    kind: Literal["budget"] = "budget"
    account: Account
    limits: Quantities


class Reserved(_Entry):
    """The worst case of a query, put aside before any light is sent; `about` says of what."""

    kind: Literal["reserved"] = "reserved"
    query: Identifier
    postings: Postings
    about: dict[str, Any]


class Committed(_Entry):
    """What a query used in fact; the rest of what it had reserved is free again."""

    kind: Literal["committed"] = "committed"
    query: Identifier
    postings: Postings
    about: dict[str, Any]


class PresumedEnded(OperatorsEntry):
    """What is booked of a query whose process nobody could look up, on the operator's word.

    Always signed: the process may run still, and its light be looked at by nobody.
    """

    kind: Literal["presumed"] = "presumed"
    query: Identifier
    postings: Postings
    about: dict[str, Any]


class Released(_Entry):
    """A query that never happened: no light was sent."""

    kind: Literal["released"] = "released"
    query: Identifier
    reason: str


class Recovered(_Entry):
    """Bytes just before this entry that are no entry: what a killed process left of one."""

    kind: Literal["recovered"] = "recovered"
    bytes: Annotated[int, Field(ge=1)]
    sha256: Digest


Entry = (
    Opened
    | OperatorNamed
    | ClientBound
    | BudgetSet
    | Reserved
    | Committed
    | PresumedEnded
    | Released
    | Recovered
)
ENTRIES: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])
