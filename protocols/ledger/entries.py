"""The entries of a ledger: budgets, reservations, and what became of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from labctl.protocols.ledger.accounts import Party
from labctl.protocols.ledger.amounts import Meter

Identifier = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Account = Annotated[str, Field(min_length=1)]
Quantities = dict[Meter, Annotated[float, Field(ge=0.0, le=1e12)]]
Postings = dict[Account, Quantities]


class _Entry(BaseModel):
    """What every entry says: its number, when it was made, and the hash of the one before."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    number: Annotated[int, Field(ge=1)]
    time: AwareDatetime
    previous: Digest


class Opened(_Entry):
    """The first entry: whose ledger it is."""

    kind: Literal["opened"] = "opened"
    party: Party
    format_version: Literal[1] = 1


class BudgetSet(_Entry):
    """New limits of one account, or of all that have none (`any`); no limits: no budget."""

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


Entry = Opened | BudgetSet | Reserved | Committed | Released | Recovered
ENTRIES: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])
