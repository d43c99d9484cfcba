"""A ledger: what accounts have spent, reserved and may, changed by entries alone.

How its entries are kept on disk is in `on_disk`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from labctl.errors import IdentityError, RecordError, SettingError
from labctl.processes import ProcessName
from labctl.protocols.ledger.accounts import (
    Balance,
    Balances,
    Party,
    checked_client,
    title,
)
from labctl.protocols.ledger.admission import Challenge, PossessionProof
from labctl.protocols.ledger.amounts import Amounts, Values, limits_of
from labctl.protocols.ledger.chain import unseal
from labctl.protocols.ledger.entries import (
    ENTRIES,
    BudgetSet,
    ClientBound,
    Committed,
    Entry,
    OperatorNamed,
    OperatorsEntry,
    Postings,
    PresumedEnded,
    Released,
    Reserved,
)
from labctl.protocols.ledger.on_disk import LedgerFiles
from labctl.protocols.ledger.open_query import OpenQuery
from labctl.protocols.ledger.sent import SentNotes, sent_path
from labctl.protocols.ledger.signing import PublicKey, Purpose, SigningKey
from labctl.protocols.ledger.state import (
    Charge,
    Head,
    LedgerState,
    Verified,
    Worst,
    passing_state,
    settled,
    stored_state,
)
from labctl.safety import uninterrupted

HOLDER = "holder"
"""What a reservation calls, among what it says, the process that holds it."""
IDENTITY = "identity"
"""What a server's reservation calls how its client was known: by name alone, or by a key."""
_Signed = TypeVar("_Signed", bound=OperatorsEntry)
Limits = Values | Callable[[Balance], Values]


class Ledger(LedgerFiles):
    """One party's ledger in a folder, which is made with the first entry.

    Several processes and threads may use it at a time. `on_notice` is called with what was left
    unfinished. Raises RecordError for what is damaged, was changed, or cannot be reached, and
    SettingError for a folder that is a file.
    """

    def start(self) -> None:
        """Make the ledger where there is none; update its head where there is."""
        with self._changing():
            pass

    def secret(self) -> bytes:
        """Return the ledger's key, made with the first entry; raises RecordError."""
        self.start()
        return self._key()

    def head(self) -> Head:
        """Return the last entry's place and hash: note it elsewhere, it proves what was there."""
        with self._reading() as state:
            return state.head

    def balance(self, account: str) -> Balance:
        """Return the state of an account, under the limits that hold for it."""
        return self.balances_of([account])[account]

    def balances_of(self, accounts: Iterable[str]) -> Balances:
        """Return the states of some accounts at one time."""
        with self._reading() as state:
            return {account: state.effective(account) for account in accounts}

    def balances(self) -> Balances:
        """Return all accounts, each under the limits that hold for it."""
        with self._reading() as state:
            return state.balances()

    def open_queries(self) -> dict[str, Mapping[str, Mapping[str, float]]]:
        """Return what queries that never ended, or have not yet, have reserved by account."""
        with self._reading() as state:
            return {
                query: {
                    name: {str(meter): value for meter, value in values.items()}
                    for name, values in postings.items()
                }
                for query, postings in state.open_queries().items()
            }

    def set_budget(
        self, account: str, limits: Limits, *, operator: SigningKey | None = None
    ) -> None:
        """Set the limits of an account, replacing all of them; `any`: of accounts that have none.

        Written down are limits of whole units, rounded down. Limits that follow from the account's
        own balance are worked out while nobody else changes it; no entry is made where they change
        nothing. Raises IdentityError where a limit of a server is raised or removed without the
        key of its `operator`.
        """
        if not callable(limits):
            limits = limits_of(limits)
        with self._changing() as (state, file):
            state.require_account(account)
            wanted = limits_of(limits(state.balance(account))) if callable(limits) else limits
            new = Amounts.of(wanted)
            if callable(limits) and state.limits_with(account, new) == state.limits_with(account):
                return
            says: dict[str, Any] = {"account": account, "limits": wanted}
            if operator is not None:
                entry = self._signed(operator, state, BudgetSet, **says)
            elif self.party is Party.SERVER and state.raises(account, new):
                raise IdentityError(
                    f"{self.path}: this raises a limit of {title(account)}, which only the "
                    "operator may: labctl ledger set-budget, or --operator-keys FOLDER"
                )
            else:
                entry = self._next(state, BudgetSet, **says)
            self._append(state, file, entry)

    def operator(self) -> SigningKey:
        """Return the operator's key from its folder; raises IdentityError for another's, or none.

        In a server's ledger from before there was one it is made, entered and reported.
        """
        with self._changing() as (state, file):
            if self.party is not Party.SERVER:
                raise IdentityError(f"{self.path}: a client's ledger has no operator")
            if state.operator() is None:
                made = self._new_operator()
                self._append(state, file, self._next(state, OperatorNamed, operator=made))
                self._on_notice(
                    f"{self.path} had no operator: the key that raises its budgets from now on is "
                    f"{self._operator_path}"
                )
            key = self._operator_key()
            self._require_operator(key, state)
            return key

    def add_client(
        self, client: str, public: PublicKey, operator: SigningKey, *, replace_key: bool = False
    ) -> str | None:
        """Bind a client's name to a key from now on; return the fingerprint it was bound to.

        No entry is made where it is bound to this key already. Raises SettingError for a name that
        no account can have, for a second key without `replace_key`, and for a key of another name.
        """
        checked_client(client)
        with self._changing() as (state, file):
            state.require_name(client)
            bound = state.client_key(client)
            if bound == public.fingerprint:
                return bound
            if bound is not None and not replace_key:
                valid = f"the key {bound[:16]} that {client} is bound to, or --replace"
                raise SettingError("public key", public.fingerprint[:16], valid)
            for name, fingerprint in state.client_keys().items():
                if fingerprint == public.fingerprint:
                    valid = f"{client}'s alone: it is {name}'s"
                    raise SettingError("public key", fingerprint[:16], valid)
            says = {"client": client, "fingerprint": public.fingerprint, "replaces": bound}
            self._append(state, file, self._signed(operator, state, ClientBound, **says))
            return bound

    def client_key(self, client: str) -> str | None:
        """Return the fingerprint of the key that a name is bound to, None if to no key.

        Raises SettingError for a name that differs by case alone from one in this ledger.
        """
        with self._reading() as state:
            state.require_name(client)
            return state.client_key(client)

    def identities(self) -> tuple[str | None, dict[str, str]]:
        """Return fingerprints: the operator's, if one is named, and those of bound names."""
        with self._reading() as state:
            operator = state.operator()
            return None if operator is None else operator.fingerprint, state.client_keys()

    def challenge(self, account: str) -> Challenge:
        """Return what a client has to sign before queries of this account are reserved here."""
        with self._reading() as state:
            return self.admissions.challenge(account, state.head.hash)

    def admit(self, account: str, proof: PossessionProof) -> None:
        """Take a client's answer to the challenge, once; raises IdentityError."""
        with self._reading() as state:
            self.admissions.admit(account, proof, state)

    def fitting(self, account: str, each: Values, most: int) -> int:
        """Return how many times `each` fits the budget of an account now, at most `most`."""
        fits = self.balance(account).fitting(Amounts.of(each))
        return most if fits is None else max(min(fits, most), 0)

    @contextmanager
    def query(self, worst_case: Worst, about: Mapping[str, Any]) -> Iterator[OpenQuery]:
        """Reserve a worst case, by account, while a query runs; on disk before the block starts.

        Left without commit or release, the query is booked at its worst case. Killed, it stays
        reserved, which counts the same. Raises BudgetError if it does not fit a budget: then
        nothing is reserved.
        """
        opened = None
        try:
            with uninterrupted():
                opened = self.reserve(worst_case, about)
        except BaseException:
            if opened is not None:
                opened.release("interrupted before light was sent")
            raise
        try:
            yield opened
        finally:
            if opened.is_open:
                why = "the query ended before it was booked: light may have been sent"
                opened.commit(worst_case, {"basis": "worst case", "why": why})

    def reserve(self, charge: Charge, about: Mapping[str, Any]) -> OpenQuery:
        """Reserve a worst case, by account, on all accounts or on none.

        Raises BudgetError, and IdentityError for an account whose client is bound to a key and was
        not admitted by this ledger object.
        """
        identifier = secrets.token_hex(16)
        with self._changing() as (state, file):
            worst_case = settled(charge, state)
            asked = {account: Amounts.of(values) for account, values in worst_case.items()}
            for account, amounts in asked.items():
                state.require_account(account)
                state.effective(account).refuse_beyond(amounts)
            says = {HOLDER: ProcessName.own().as_json(), **about}
            known = self.admissions.require(asked, state)
            if self.party is Party.SERVER:
                says[IDENTITY] = known
            entry = self._next(
                state, Reserved, query=identifier, postings=_plain(worst_case), about=says
            )
            self._append(state, file, entry)
        return OpenQuery(self, identifier, worst_case)

    def commit(
        self,
        query: str,
        charge: Charge,
        about: Mapping[str, Any],
        *,
        operator: SigningKey | None = None,
    ) -> Worst:
        """Append what a query used, and return it; raises RecordError if it is not open.

        operator: who presumes that its process has ended, and signs that. Raises IdentityError
        for another's key.
        """
        with self._changing() as (state, file):
            self._require_open(state, query)
            used = settled(charge, state)
            says: dict[str, Any] = {"query": query, "postings": _plain(used), "about": dict(about)}
            entry = (
                self._next(state, Committed, **says)
                if operator is None
                else self._signed(operator, state, PresumedEnded, **says)
            )
            self._append(state, file, entry)
        return used

    def release(self, query: str, reason: str, owed: Charge | None = None) -> None:
        """Append that a query never happened, and book what is `owed` instead, if anything.

        Raises RecordError if it is not open.
        """
        with self._changing() as (state, file):
            self._require_open(state, query)
            used = {} if owed is None else settled(owed, state)
            entry = (
                self._next(
                    state, Committed, query=query, postings=_plain(used), about={"why": reason}
                )
                if used
                else self._next(state, Released, query=query, reason=reason)
            )
            self._append(state, file, entry)

    def notes(self, query: str, items: Sequence[str]) -> SentNotes:
        """Return what notes, for `settle`, how many queries of a reservation were sent."""
        return SentNotes(self.sent_path(query), self._key(), query, items)

    def sent_path(self, query: str) -> Path:
        """Return the file of those notes."""
        return sent_path(self.keys, self.party, query)

    def entries(self) -> Iterator[Entry]:
        """Yield all entries, each checked; raises RecordError at the first that does not hold."""
        head = self.head()
        for line in self._lines(self._key()):
            if line.entry is None:
                self._tolerated(line, head)
                return
            yield line.entry

    def latest(self) -> Iterator[Entry]:
        """Yield entries from the last one back, each held to its own code, not to the chain."""
        end, key = self.head().size, self._key()
        with self._disk():
            content = self._content()[:end]
        while end > 0:
            start = content.rfind(b"\n", 0, end - 1) + 1
            # Bytes that a killed process left are no entry; `entries` and `verify` say so.
            with suppress(ValueError):
                yield ENTRIES.validate_python(unseal(content[start:end], key).content)
            end = start

    def verify(
        self, noted: str | None = None, on_entries: Callable[[int], None] = lambda count: None
    ) -> Verified:
        """Check every byte: chain, codes, sums, and that nothing is missing at the end.

        `noted`: a head's hash that was noted elsewhere, which must be in the chain. Raises
        RecordError that names the first line that does not hold. Changes nothing.
        """
        if not self.exists:
            raise self._missing()
        key = self._key()
        with self._locked(), stored_state(self._existing_head()) as kept, passing_state() as again:
            head, trailing, seen = kept.head, 0, noted is None
            for line in self._lines(key):
                if line.entry is None:
                    trailing = self._tolerated(line, head)
                    break
                seen = seen or line.head.hash == noted
                self._apply(again, line.entry, line.head)
                if line.head.count == head.count:
                    self._agree(again, kept)
                on_entries(1)
            self._whole(again.head, head)
            if not seen:
                raise RecordError(f"{self.path}: no entry has the hash {noted} that was noted")
            return Verified(again.head.count, again.head.hash, again.head.recovered, trailing)

    def rebuild(self) -> Verified:
        """Make the head again from all entries where it was lost; then verify.

        What was cut off the end before is not seen to be missing. Raises RecordError.
        """
        if not self._key_path.exists() or not self.path.exists():
            raise self._missing()
        if self._head_path.exists():
            raise RecordError(f"{self._head_path} is there: take it away to have it made again")
        with (
            self._disk(),
            self._locked(),
            stored_state(self._head_path) as state,
            self.path.open("rb+") as file,
        ):
            self._catch_up(state, file, self._key())
        return self.verify()

    def _require_operator(self, key: SigningKey, state: LedgerState) -> None:
        named = state.operator()
        if named is None:
            raise IdentityError(f"{self.path}: this ledger has no operator that could sign")
        if key.public != named:
            raise IdentityError(
                f"{self.path}: the key {key.public.fingerprint[:16]} is not that of its operator, "
                f"{named.fingerprint[:16]}"
            )

    def _signed(
        self, operator: SigningKey, state: LedgerState, kind: type[_Signed], **says: Any
    ) -> _Signed:
        """Return the next entry with the operator's signature; raises IdentityError for another's.

        Before anything is written: a ledger with an entry that does not hold is refused.
        """
        self._require_operator(operator, state)
        entry = self._next(state, kind, **says)
        signature = operator.sign(Purpose.OPERATOR, entry.signed_content)
        return entry.model_copy(update={"signature": signature})

    def _require_open(self, state: LedgerState, query: str) -> None:
        if not state.is_open(query):
            raise RecordError(f"{self.path}: query {query} is not open: it has ended before")

    def _agree(self, again: LedgerState, kept: LedgerState) -> None:
        if not again.same_as(kept):
            raise RecordError(
                f"{self._head_path}: its sums are not those of the entries; take it away and run "
                "labctl ledger verify --rebuild"
            )

    def _whole(self, found: Head, head: Head) -> None:
        if found.count < head.count:
            raise self._cut(head.count, found.count)


def _plain(postings: Worst) -> Postings:
    return {account: dict(values) for account, values in postings.items()}
