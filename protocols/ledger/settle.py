"""Settles reservations of processes that were killed: by what they had noted, or at the worst.

A reservation counts as spent for as long as it stands, because its process may have sent all of its
light. Once the process has ended, what it noted before each light left (`sent`) says how many
queries were sent at most. They are booked as light that nobody looked at, at no less than lifts
the account to the bound of all its light; where none was sent, only what others were charged less
because of the reservation is booked. Where nothing was noted, or the notes are not whole, all that
was reserved is booked.

Nothing is settled while its process runs. Of a process that nobody here can look up (another
computer, or a reservation of before processes were named) it takes a person's word that it
has ended; then all is booked and notes are not looked at, for the word may be wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from labctl.errors import RecordError
from labctl.processes import Life, ProcessName
from labctl.protocols.leakage.cumulative import everything_bits
from labctl.protocols.ledger.accounts import Balance, Party
from labctl.protocols.ledger.amounts import Amounts, Meter, Values
from labctl.protocols.ledger.book import HOLDER, Ledger
from labctl.protocols.ledger.charges import Basis, WeightCharge
from labctl.protocols.ledger.collective_store import CollectiveStore
from labctl.protocols.ledger.cumulative_account import CumulativeAccount
from labctl.protocols.ledger.entries import Reserved
from labctl.protocols.ledger.further import QueryTerms
from labctl.protocols.ledger.sent import Sent, read_sent
from labctl.protocols.ledger.signing import SigningKey
from labctl.protocols.ledger.state import Worst
from labctl.wording import counted

Stands = Callable[[str], Balance]

# A share of what was reserved is rounded up by this much: sums must not come out too low.
_ROUNDING = 1e-12
# Sums are of whole units of 1e-12; two more for what differences of floats lose.
_UNITS = 2e-12
# Balances are kept in units of 1e-12, each charge rounded up: less than that is rounding.
_LEAST_PHOTONS = _LEAST_BITS = 1e-9


@dataclass(frozen=True)
class Settlement:
    """What became, or would become, of one open reservation.

    holder: its process, None where none was named. sent: queries that were sent at most, None
    where all count. booked: amounts by account; None where it was left open. why: in words.
    """

    party: Party
    query: str
    reserved: Worst
    holder: ProcessName | None
    sent: int | None
    booked: Worst | None
    why: str

    @property
    def queries(self) -> float:
        """How many queries were reserved, over all accounts."""
        return sum(values.get(Meter.QUERIES, 0.0) for values in self.reserved.values())


def settle(
    ledger: Ledger,
    *,
    presume_ended: bool = False,
    dry_run: bool = False,
) -> list[Settlement]:
    """Settle a ledger's open reservations whose process has ended; return what became of each.

    presume_ended: a person says that processes which cannot be looked up have ended. dry_run:
    only work it out. Raises RecordError where the ledger is damaged, and IdentityError where what
    is presumed of a server's ledger is to be booked without its operator's key.
    """
    asks = presume_ended and not dry_run and ledger.party is Party.SERVER
    operator = ledger.operator() if asks else None
    found = []
    passed = _Passed(ledger)
    for entry in _open_reservations(ledger):
        holder = _holder(entry)
        ends, why = _may_end(holder, presume_ended)
        if not ends:
            found.append(_left_open(ledger, entry, holder, why))
            continue
        sent, evidence = (
            (None, "its notes are not looked at") if ends == "presumed" else _noted(ledger, entry)
        )
        charge = _charge_of(ledger, entry, sent)
        why = f"{why}; {evidence}"
        booked: Worst | None
        if dry_run:
            booked = _not_empty(charge(passed.stands))
            passed.settle(entry, booked)
        else:
            signs = operator if ends == "presumed" else None
            booked = _booked(ledger, entry, sent, charge, why, signs)
        if booked is None:  # it ended by itself, or another settled it
            continue
        count = None if sent is None else sent.count
        found.append(
            Settlement(ledger.party, entry.query, entry.postings, holder, count, booked, why)
        )
    if not dry_run:
        _clean(ledger)
    return found


def _open_reservations(ledger: Ledger) -> Iterator[Reserved]:
    """Yield the entries of all open reservations, the oldest first."""
    wanted = set(ledger.open_queries())
    found = []
    for entry in ledger.latest() if wanted else ():
        if isinstance(entry, Reserved) and entry.query in wanted:
            found.append(entry)
            wanted.discard(entry.query)
            if not wanted:
                break
    if wanted:
        raise RecordError(f"{ledger.path}: no entry says what query {min(wanted)} reserved")
    yield from reversed(found)


def _holder(entry: Reserved) -> ProcessName | None:
    named = entry.about.get(HOLDER)
    try:
        return ProcessName.of_json(named) if isinstance(named, Mapping) else None
    except ValueError:
        return None


def _may_end(holder: ProcessName | None, presume_ended: bool) -> tuple[str, str]:
    """Return whether and how a reservation may end, empty if it may not, and why."""
    life = Life.UNKNOWN if holder is None else holder.life()
    if life is Life.RUNS:
        return "", f"{holder} still runs"
    if life is Life.ENDED:
        return "ended", f"{holder} has ended"
    who = (
        "no process is named"
        if holder is None
        else f"{holder} cannot be looked up from {ProcessName.own().host}"
    )
    return ("presumed", f"{who}: presumed ended") if presume_ended else ("", who)


def _left_open(ledger: Ledger, entry: Reserved, holder: ProcessName | None, why: str) -> Settlement:
    return Settlement(ledger.party, entry.query, entry.postings, holder, None, None, why)


def _noted(ledger: Ledger, entry: Reserved) -> tuple[Sent | None, str]:
    """Return what was noted of a reservation, None where all of it counts, and what that is."""
    try:
        sent = read_sent(ledger.sent_path(entry.query), ledger.secret(), entry.query)
    except FileNotFoundError:
        return None, "nothing was noted of what was sent: all counts"
    except (ValueError, OSError) as error:
        return None, f"its notes of what was sent do not hold ({error}): all counts"
    if not _fits(sent, entry):
        return None, "its notes are of other queries than were reserved: all counts"
    reserved = counted(len(sent.items), "query", "queries")
    if not sent.count:
        return sent, f"noted before any light: none of {reserved} was sent"
    return sent, f"noted: at most {sent.count} of {reserved} were sent"


def _fits(sent: Sent, entry: Reserved) -> bool:
    """Whether notes name as many queries of each account as were reserved."""
    counts = Counter(sent.items)
    if set(counts) != set(entry.postings):
        return False
    return all(
        entry.postings[account].get(Meter.QUERIES) == float(count)
        for account, count in counts.items()
    )


def _charge_of(ledger: Ledger, entry: Reserved, sent: Sent | None) -> Callable[[Stands], Worst]:
    """Return what works out the amounts to book, from how the accounts stand then."""
    if ledger.party is Party.CLIENT:
        return lambda stands: _of_inputs(entry, sent)
    store = CollectiveStore(ledger.folder, ledger.secret())
    bounds = {account: _bound(store, account, entry) for account in entry.postings}

    def charge(stands: Stands) -> Worst:
        return {
            account: _of_weights(entry, account, sent, stands(account), bounds[account])
            for account in entry.postings
        }

    return charge


def _of_inputs(entry: Reserved, sent: Sent | None) -> Worst:
    """Return what the first queries of a reservation revealed of each input: each the same."""
    if sent is None:
        return entry.postings
    reserved, were = Counter(sent.items), Counter(sent.items[: sent.count])
    return {
        account: {
            meter: min(value, value * count / reserved[account] * (1.0 + _ROUNDING))
            if count < reserved[account] and meter is not Meter.QUERIES
            else value * count / reserved[account]
            for meter, value in entry.postings[account].items()
        }
        for account, count in were.items()
    }


def _terms(entry: Reserved) -> QueryTerms | None:
    """Return the terms that a reservation notes; None for one of before they were noted."""
    try:
        return QueryTerms.of_json(entry.about["query_terms"])
    except (KeyError, TypeError, ValueError):
        return None


def _bound(store: CollectiveStore, account: str, entry: Reserved) -> Callable[[float], float]:
    """Return the bound of all light of an account, by its photons per mode."""
    terms = _terms(entry)
    if terms is None:
        return everything_bits
    return CumulativeAccount(store.kept(account), terms.failure_probability).bits


def _of_weights(
    entry: Reserved,
    account: str,
    sent: Sent | None,
    balance: Balance,
    bound: Callable[[float], float],
) -> Values:
    """Return what the queries that were sent revealed of an account's weights, at the worst.

    balance: of the account, the reservation included. bound: of all its light, in bit per real
    weight by photons per mode.
    """
    reserved, terms = entry.postings[account], _terms(entry)
    light = reserved.get(Meter.PHOTONS, 0.0)
    if terms is None or not light:
        # Without them nobody can tell what a part of it would be, or that it may be freed.
        if entry.about.get("basis") == Basis.HONEST and light:
            return _lifted(reserved, balance, bound)
        return reserved
    queries = reserved[Meter.QUERIES]
    count = queries if sent is None else float(sent.count)
    if count == queries:
        # What was reserved at its worst is a bound already; an honest client's share is none.
        honest = terms.worst_case is Basis.HONEST
        return {
            **(_lifted(reserved, balance, bound) if honest else reserved),
            # Its light may have been looked at, and what was seen kept, before the process ended.
            Meter.FAILURE_PROBABILITY: terms.failure_probability,
        }
    part = count * (light / queries) * (1.0 + _ROUNDING)
    bits = _needed(reserved, balance, bound, part)
    if not count and not bits:
        return {}
    failure = terms.failure_probability if count else 0.0
    return WeightCharge(round(count), part, bits, terms.modes, failure).values()


def _lifted(reserved: Values, balance: Balance, bound: Callable[[float], float]) -> Values:
    """Return a reservation, all of it sent, with what lifts its account to the bound."""
    held = reserved.get(Meter.CUMULATIVE_BITS, 0.0)
    more = max(_needed(reserved, balance, bound, reserved[Meter.PHOTONS]) - held, 0.0)
    bits = reserved.get(Meter.WEIGHT_BITS, 0.0)
    # All weights together: in the proportion in which they were reserved.
    scale = (bits + more) / bits * (1.0 + _ROUNDING) if bits else 1.0
    return {
        **reserved,
        Meter.WEIGHT_BITS: bits + more,
        Meter.CUMULATIVE_BITS: held + more,
        Meter.TOTAL_BITS: reserved.get(Meter.TOTAL_BITS, 0.0) * scale,
    }


def _needed(
    reserved: Values, balance: Balance, bound: Callable[[float], float], light: float
) -> float:
    """Return the bits that lift an account to the bound of its light, `light` of it reserved's."""
    taken = balance.taken
    photons = taken.value(Meter.PHOTONS) - reserved[Meter.PHOTONS] + light
    others = taken.value(Meter.CUMULATIVE_BITS) - reserved.get(Meter.CUMULATIVE_BITS, 0.0)
    if photons < _LEAST_PHOTONS:
        return 0.0
    needed = bound(photons) - others
    return needed + _UNITS if needed > _LEAST_BITS else 0.0


def _booked(
    ledger: Ledger,
    entry: Reserved,
    sent: Sent | None,
    charge: Callable[[Stands], Worst],
    why: str,
    operator: SigningKey | None,
) -> Worst | None:
    """Append what ends a reservation; return what was booked, None if it had ended meanwhile.

    operator: who signs that its process is presumed ended.
    """
    booked: Worst = {}

    def settled(stands: Stands) -> Worst:
        nonlocal booked
        booked = _not_empty(charge(stands))
        return booked

    try:
        if sent is not None and not sent.count:
            ledger.release(entry.query, why, settled)
        else:
            about = {"basis": "worst case", "why": why}
            ledger.commit(entry.query, settled, about, operator=operator)
    except RecordError:
        if entry.query in ledger.open_queries():
            raise
        return None
    return booked


def _not_empty(charged: Worst) -> Worst:
    return {name: values for name, values in charged.items() if values}


class _Passed:
    """The accounts as they would stand after what a dry run has settled."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[str, Balance] = {}

    def stands(self, account: str) -> Balance:
        """Return how an account would stand now."""
        if account not in self._known:
            self._known[account] = self._ledger.balance(account)
        return self._known[account]

    def settle(self, entry: Reserved, booked: Worst) -> None:
        """Take a reservation off its accounts, and book what was worked out."""
        for account in {**entry.postings, **booked}:
            balance = self.stands(account)
            self._known[account] = replace(
                balance,
                reserved=balance.reserved - Amounts.of(entry.postings.get(account, {})),
                spent=balance.spent + Amounts.of(booked.get(account, {})),
            )


def _clean(ledger: Ledger) -> None:
    """Take away notes of reservations that have ended, which their processes left behind."""
    any_query = ledger.sent_path("*")
    # Before the look at what is open: what is noted later has not ended.
    paths = list(any_query.parent.glob(any_query.name))
    open_now = set(ledger.open_queries())
    for path in paths:
        if path.stem.partition("-")[2] not in open_now:
            path.unlink(missing_ok=True)
