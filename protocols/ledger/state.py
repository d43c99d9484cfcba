"""The state of a ledger: its head, balances and open reservations, in a small database.

Everything in it follows from the entries; it is kept so that a query need not read them all, and
kept apart from them, with the key, so that a ledger that was cut short does not pass for a whole.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from labctl.errors import RecordError, SettingError
from labctl.protocols.ledger.accounts import ANY, Balance, Balances, client_of
from labctl.protocols.ledger.amounts import Amounts, Meter, Values
from labctl.protocols.ledger.chain import BEGINNING
from labctl.protocols.ledger.entries import (
    BudgetSet,
    ClientBound,
    Committed,
    Entry,
    Opened,
    OperatorNamed,
    PresumedEnded,
    Quantities,
    Recovered,
    Released,
    Reserved,
)
from labctl.protocols.ledger.signing import PublicKey, Purpose

Worst = Mapping[str, Values]
# Amounts that depend on the state of the accounts, worked out while nobody else changes it.
Charge = Worst | Callable[[Callable[[str], Balance]], Worst]

_LAYOUT = (
    "CREATE TABLE IF NOT EXISTS head (id INTEGER PRIMARY KEY CHECK (id = 0), count INTEGER, "
    "start INTEGER, size INTEGER, hash TEXT, recovered INTEGER)",
    "CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, balance TEXT) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS queries (id TEXT PRIMARY KEY, postings TEXT) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS operator (id INTEGER PRIMARY KEY CHECK (id = 0), public TEXT)",
    "CREATE TABLE IF NOT EXISTS clients (name TEXT PRIMARY KEY, fingerprint TEXT) WITHOUT ROWID",
)
# Writers wait for the ledger's lock; only a reader's moment is waited for here.
_WAIT_S = 30.0


@dataclass(frozen=True)
class Head:
    """The last entry: how many there are, where it starts, the file's size after it, its hash."""

    count: int = 0
    start: int = 0
    size: int = 0
    hash: str = BEGINNING
    recovered: int = 0


@dataclass(frozen=True)
class Verified:
    """What was found of a ledger whose entries all hold: how many, the head, what is unusual.

    `recovered`: entries that a killed process left unfinished. `trailing_bytes`: of one that
    nobody came back to yet.
    """

    entries: int
    head: str
    recovered: int
    trailing_bytes: int


class LedgerState:
    """Head, balances and open reservations; changed only by entries."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        for statement in _LAYOUT:
            connection.execute(statement)

    @property
    def head(self) -> Head:
        """The last entry that was taken in."""
        row = self._connection.execute(
            "SELECT count, start, size, hash, recovered FROM head"
        ).fetchone()
        return Head() if row is None else Head(*row)

    def balance(self, account: str) -> Balance:
        """Return the state of an account; the limits set for any account are not its own."""
        row = self._connection.execute(
            "SELECT balance FROM accounts WHERE name = ?", (account,)
        ).fetchone()
        return Balance(account) if row is None else _balance(account, row[0])

    def effective(self, account: str) -> Balance:
        """Return an account's state; a limit that it lacks is the one for any account."""
        balance = self.balance(account)
        return _limited(balance, self.balance(ANY).limits)

    def balances(self) -> Balances:
        """Return all accounts, each under the limits that hold for it."""
        limits = self.balance(ANY).limits
        rows = self._connection.execute("SELECT name, balance FROM accounts ORDER BY name")
        found = {name: _balance(name, text) for name, text in rows if name != ANY}
        return {name: _limited(each, limits) for name, each in found.items()}

    def open_queries(self) -> dict[str, Mapping[str, Quantities]]:
        """Return what each open query has reserved, by account."""
        rows = self._connection.execute("SELECT id, postings FROM queries ORDER BY id")
        return {name: json.loads(text) for name, text in rows}

    def is_open(self, query: str) -> bool:
        """Whether a query is reserved and neither committed nor released."""
        row = self._connection.execute("SELECT 1 FROM queries WHERE id = ?", (query,)).fetchone()
        return row is not None

    def operator(self) -> PublicKey | None:
        """Return the operator's public key; None in a client's ledger, and before it was named."""
        row = self._connection.execute("SELECT public FROM operator").fetchone()
        return None if row is None else PublicKey(bytes.fromhex(row[0]))

    def client_key(self, client: str) -> str | None:
        """Return the fingerprint of the key that a name is bound to, None if to no key."""
        row = self._connection.execute(
            "SELECT fingerprint FROM clients WHERE name = ?", (client,)
        ).fetchone()
        return None if row is None else str(row[0])

    def client_keys(self) -> dict[str, str]:
        """Return the fingerprints of all names that are bound to a key."""
        return dict(self._connection.execute("SELECT name, fingerprint FROM clients ORDER BY name"))

    def require_account(self, account: str) -> None:
        """Raise SettingError for a server's account of such a name."""
        client, slash, _ = account.partition("/")
        if slash:
            self.require_name(client)

    def require_name(self, client: str) -> None:
        """Raise SettingError for a new name that differs from one in this ledger by case alone.

        Both are read where an earlier version took both.
        """
        rows = self._connection.execute(
            "SELECT name FROM accounts WHERE name LIKE ? ESCAPE '\\' "
            "UNION SELECT name FROM clients WHERE name = ? COLLATE NOCASE",
            (re.sub(r"([_%\\])", r"\\\1", client) + "/%", client),
        )
        found = sorted({client_of(name) for (name,) in rows})
        if found and client not in found:
            valid = f"{found[0]!r}, as it is written in this ledger, or a name that differs by more"
            raise SettingError("client", client, f"{valid} than case")

    def raises(self, account: str, limits: Amounts) -> bool:
        """Whether new limits of an account, or of any, raise or remove one that holds now."""
        now, then = self.limits_with(account), self.limits_with(account, limits)
        return any(
            meter not in then.units or then.units[meter] > units
            for meter, units in now.units.items()
        )

    def limits_with(self, account: str, own: Amounts | None = None) -> Amounts:
        """Return the limits that hold for an account, with other ones of its own if given."""
        any_account = {} if account == ANY else self.balance(ANY).limits.units
        if own is None:
            own = self.balance(account).limits
        return Amounts({**any_account, **own.units})

    def apply(self, entry: Entry, head: Head) -> None:
        """Take in an entry, after which the file ends at `head`.

        Raises ValueError for one that cannot follow: a query that is not open, a budget that is
        raised, a client that is bound or an end that is presumed without the operator's signature.
        """
        match entry:
            case Opened():
                self._name_operator(entry.operator)
            case OperatorNamed():
                self._name_operator(entry.operator)
            case ClientBound():
                self._bind(entry)
            case BudgetSet():
                limits = Amounts.of(entry.limits)
                self._require_signed(entry, needed=self.raises(entry.account, limits))
                self._keep(replace(self.balance(entry.account), limits=limits))
            case Reserved():
                self._reserve(entry)
            case Committed():
                self._settle(entry.query, entry.postings)
            case PresumedEnded():
                self._require_signed(entry, needed=True)
                self._settle(entry.query, entry.postings)
            case Released():
                self._settle(entry.query, {})
            case Recovered():
                head = replace(head, recovered=head.recovered + 1)
            case _:
                pass
        self._connection.execute(
            "INSERT OR REPLACE INTO head VALUES (0, ?, ?, ?, ?, ?)",
            (head.count, head.start, head.size, head.hash, head.recovered),
        )

    def same_as(self, other: LedgerState) -> bool:
        """Whether two states agree in everything."""
        return all(
            self._connection.execute(query).fetchall()
            == other._connection.execute(query).fetchall()
            for query in (
                "SELECT * FROM head",
                "SELECT name, balance FROM accounts ORDER BY name",
                "SELECT id, postings FROM queries ORDER BY id",
                "SELECT * FROM operator",
                "SELECT name, fingerprint FROM clients ORDER BY name",
            )
        )

    def _name_operator(self, public: str | None) -> None:
        if public is None:
            return
        try:
            self._connection.execute("INSERT INTO operator VALUES (0, ?)", (public,))
        except sqlite3.IntegrityError as error:
            raise ValueError("the ledger has an operator already") from error

    def _bind(self, entry: ClientBound) -> None:
        self._require_signed(entry, needed=True)
        if entry.replaces != self.client_key(entry.client):
            raise ValueError(f"client {entry.client} was not bound to the key that is replaced")
        self._connection.execute(
            "INSERT OR REPLACE INTO clients VALUES (?, ?)", (entry.client, entry.fingerprint)
        )

    def _require_signed(
        self, entry: BudgetSet | ClientBound | PresumedEnded, *, needed: bool
    ) -> None:
        """Refuse a signature that is not the operator's, and none where one is needed."""
        operator = self.operator()
        if entry.signature is None:
            # Before the operator was named budgets were not signed.
            if needed and (operator is not None or not isinstance(entry, BudgetSet)):
                raise ValueError("the operator's signature is missing")
        elif operator is None or not operator.holds(
            entry.signature, Purpose.OPERATOR, entry.signed_content
        ):
            raise ValueError("its signature is not the operator's")

    def _reserve(self, entry: Reserved) -> None:
        for account, values in entry.postings.items():
            balance = self.balance(account)
            self._keep(replace(balance, reserved=balance.reserved + Amounts.of(values)))
        text = json.dumps(entry.model_dump(mode="json")["postings"], sort_keys=True)
        try:
            self._connection.execute("INSERT INTO queries VALUES (?, ?)", (entry.query, text))
        except sqlite3.IntegrityError as error:
            raise ValueError(f"query {entry.query} is reserved twice") from error

    def _settle(self, query: str, used: Mapping[str, Quantities]) -> None:
        row = self._connection.execute(
            "SELECT postings FROM queries WHERE id = ?", (query,)
        ).fetchone()
        if row is None:
            raise ValueError(f"query {query} is not open")
        reserved = {name: _quantities(values) for name, values in json.loads(row[0]).items()}
        for account in {**reserved, **used}:
            balance = self.balance(account)
            freed = Amounts.of(reserved.get(account, {}))
            spent = Amounts.of(used.get(account, {}))
            changed = replace(
                balance, reserved=balance.reserved - freed, spent=balance.spent + spent
            )
            self._keep(changed)
        self._connection.execute("DELETE FROM queries WHERE id = ?", (query,))

    def _keep(self, balance: Balance) -> None:
        parts = (balance.spent, balance.reserved, balance.limits)
        text = json.dumps([dict(sorted(part.units.items())) for part in parts])
        self._connection.execute(
            "INSERT OR REPLACE INTO accounts VALUES (?, ?)", (balance.account, text)
        )


def _balance(account: str, text: str) -> Balance:
    parts = [
        Amounts({Meter(name): units for name, units in part.items()}) for part in json.loads(text)
    ]
    return Balance(account, *parts)


def _limited(balance: Balance, for_any: Amounts) -> Balance:
    """Return a balance with the limits for any account where it has none itself."""
    return replace(balance, limits=Amounts({**for_any.units, **balance.limits.units}))


def _quantities(values: Mapping[str, float]) -> Quantities:
    return {Meter(name): value for name, value in values.items()}


@contextmanager
def stored_state(path: Path) -> Iterator[LedgerState]:
    """Open the state in a file for one change: all of it is kept, or nothing if this raises.

    The caller holds the ledger's lock. Raises RecordError if the file is no such database.
    """
    try:
        with closing(sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            yield LedgerState(connection)
            connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        # The disk or its rights, not the content: taking the head away would help nobody.
        # SQLite has words of its own where the file was removed under it.
        why = error if path.exists() else "it or its folder was removed meanwhile"
        raise RecordError(f"{path}: the head of the ledger cannot be kept ({why})") from error
    except sqlite3.Error as error:
        raise RecordError(
            f"{path}: not readable as the head of a ledger ({error}); take it away and run "
            "labctl ledger verify --rebuild, which reads all entries again"
        ) from error


@contextmanager
def passing_state() -> Iterator[LedgerState]:
    """Open an empty state in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        yield LedgerState(connection)


def settled(charge: Charge, state: LedgerState) -> Worst:
    """Return the amounts of a charge, given the states of the accounts now."""
    return charge(state.effective) if callable(charge) else charge
