"""What `labctl ledger show` shows: books and accounts as JSON, as tables and as a figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from labctl.cli import output
from labctl.protocols.copies.figure import CopyFigure
from labctl.protocols.leakage import MEAN_OVER_SESSION
from labctl.protocols.ledger.accounts import (
    ANY,
    Balance,
    Party,
    client_of,
    named,
)
from labctl.protocols.ledger.admission import NAME_ALONE
from labctl.protocols.ledger.amounts import UNION_BOUND, Amounts, Meter, as_shown
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.charges import COMPOSITION_OF_DATA, COMPOSITION_OF_WEIGHTS
from labctl.protocols.ledger.collective_store import CollectiveStore
from labctl.protocols.ledger.copy_account import CopyAccount, CopyBudget
from labctl.protocols.ledger.cumulative_account import CumulativeAccount
from labctl.protocols.ledger.entries import Reserved
from labctl.protocols.ledger.further import COUNTLESS, QueryTerms
from labctl.protocols.ledger.server_books import additive_bits, composition
from labctl.protocols.ledger.settle import Settlement
from labctl.protocols.ledger.state import Worst
from labctl.wording import counted

PER_QUERY = f"bits per weight and query that entries hold are of a session: {MEAN_OVER_SESSION}"
# A few of many inputs; --json has all.
_SHOWN_INPUTS = 5
# As many as errors name a key by.
_SHOWN_DIGITS = 16
_COPY_FIELDS = ("queries", "accuracy", "classes_alone", "attack", "spend", "reason")


class Formula(StrEnum):
    """Which of the three formulas for data a budget is held against."""

    FIRST = "first"
    JOURNAL = "journal"
    QUANTUM = "quantum"

    @property
    def meter(self) -> Meter:
        """The meter that this formula's information adds up on."""
        return Meter(f"information_{self}")


def chosen(book: Ledger, client: str | None, digest: str | None) -> list[Balance]:
    """Return the accounts asked for; a client ledger's have neither client nor model."""
    balances = book.balances().values()
    if book.party is Party.CLIENT:
        return list(balances)
    found = []
    for balance in balances:
        name, _, model = balance.account.partition("/")
        if client in {None, name} and model.startswith(digest or ""):
            found.append(balance)
    return found


def book_json(book: Ledger, balances: list[Balance]) -> dict[str, Any]:
    """Return the accounts of a book, what adds up in it, and its head."""
    head = book.head()
    names = {balance.account for balance in balances}
    opened = {
        query: postings for query, postings in book.open_queries().items() if names & set(postings)
    }
    operator, bound = book.identities()
    composition = COMPOSITION_OF_WEIGHTS if book.party is Party.SERVER else COMPOSITION_OF_DATA
    return {
        "accounts": [_account_json(balance) for balance in balances]
        if book.party is Party.CLIENT
        else _weights_json(book, balances),
        "by_model": _by_model(balances) if book.party is Party.SERVER else [],
        "any_account": by_name(book.balance(ANY).limits),
        "open": opened,
        "composition": composition,
        **(
            {"per_query": PER_QUERY, "operator": operator, "clients": bound}
            if book.party is Party.SERVER
            else {}
        ),
        "head": {"entries": head.count, "hash": head.hash, "recovered": head.recovered},
    }


def _account_json(balance: Balance) -> dict[str, Any]:
    client, slash, model = balance.account.partition("/")
    who = {"client": client, "model_sha256": model} if slash else {"input": client}
    return {
        **who,
        "spent": by_name(balance.spent),
        "reserved": by_name(balance.reserved),
        "budget": by_name(balance.limits),
        "overdrawn": balance.overdrawn,
        **({"counted_by": _counted_by(balance)} if slash else {}),
        **({"best_copy": CopyAccount.of(balance).figure(model).as_json()} if slash else {}),
    }


def _weights_json(book: Ledger, balances: list[Balance]) -> list[dict[str, Any]]:
    """Return server accounts with how many queries like those of each one's last run fit."""
    terms = _terms(book, {balance.account for balance in balances})
    _, bound = book.identities()
    return [
        {
            **_account_json(balance),
            "identity": bound.get(client_of(balance.account), NAME_ALONE),
            "queries_left": _queries_left(book, balance, terms.get(balance.account)),
            "queries_left_known": not balance.limits.units or balance.account in terms,
        }
        for balance in balances
    ]


def _counted_by(balance: Balance) -> dict[str, Any]:
    """Return how the account's bits of weights were counted, and how many of them additively."""
    return {"additive": additive_bits(balance), "in_words": composition(balance)}


def _terms(book: Ledger, accounts: set[str]) -> dict[str, QueryTerms]:
    """Return the terms of the last run of each account that noted any."""
    found: dict[str, QueryTerms] = {}
    for entry in book.latest():
        if not accounts - set(found):
            break
        if isinstance(entry, Reserved) and "query_terms" in entry.about:
            terms = QueryTerms.of_json(entry.about["query_terms"])
            for account in accounts & set(entry.postings):
                found.setdefault(account, terms)
    return found


def _queries_left(book: Ledger, balance: Balance, terms: QueryTerms | None) -> int | None:
    """Return how many queries like those of the last run still fit; None: any, or not known."""
    if terms is None:
        return None
    store = CollectiveStore(book.folder, book.secret())
    bound = CumulativeAccount(store.kept(balance.account), terms.failure_probability)
    copies = CopyBudget(balance.account.partition("/")[2], terms.copies)
    left = terms.fitting(balance, bound, copies)
    return None if left == COUNTLESS else left


def _by_model(balances: Iterable[Balance]) -> list[dict[str, Any]]:
    """Return what all clients of a model hold together, should they put it together."""
    sums: dict[str, tuple[int, Amounts]] = {}
    for balance in balances:
        model = balance.account.partition("/")[2]
        clients, amounts = sums.get(model, (0, Amounts()))
        sums[model] = (clients + 1, amounts + balance.taken)
    return [
        {"model_sha256": model, "clients": clients, "taken": by_name(amounts)}
        for model, (clients, amounts) in sums.items()
    ]


def by_name(amounts: Amounts) -> dict[str, float]:
    """Return amounts by name: failures as their union bound, information as bits per symbol too."""
    values = as_shown(amounts.by_meter())
    for meter in amounts.units:
        if meter.is_information:
            name = str(meter).replace("information", "bits_per_symbol")
            values[name] = meter.shown(amounts.value(meter))
    return values


def draw(path: Path, book: Ledger, balances: list[Balance]) -> None:
    """Draw bits against queries, with the budget; raises UsageError if it cannot be written."""
    from labctl.protocols.ledger.figure import curves_of, draw_ledger

    note = (
        "committed bits, each on the basis that its entry names; thick: reserved, counts as spent"
    )
    draw_ledger(path, curves_of(book.entries(), balances), note)


def print_books(found: Mapping[str, Any]) -> None:
    """Print for people what `show` found in the books of a folder."""
    server, client = found.get("server"), found.get("client")
    if server is not None:
        output.table(
            "Weights, leaked to clients, in bit per real weight (prior-free)",
            [
                "client",
                "model",
                "queries",
                "spent",
                "reserved",
                "budget",
                "queries left, as last run",
            ],
            [_weights_row(each) for each in server["accounts"]],
        )
        for each in server["accounts"]:
            who = f"client {each['client']} on {each['model_sha256'][:12]}"
            output.people.print(f"{who}: known by {identity_in_words(each['identity'])}")
            output.people.print(f"{who}: {_copy_words(each['best_copy'])}")
            output.people.print(f"{who}: {_failure_words(each['spent'])}")
        for each in server["accounts"]:
            if each["counted_by"]["additive"] > 0.0:
                who = f"client {each['client']} on {each['model_sha256'][:12]}"
                output.people.print(f"{who}: {each['counted_by']['in_words'][-1]}")
        for each in server["by_model"]:
            if each["clients"] > 1:
                bits = each["taken"].get("bits_per_weight", 0.0)
                output.people.print(
                    f"all {each['clients']} clients of {each['model_sha256'][:12]} together: "
                    f"{bits:.6g} bit per real weight (prior-free)"
                )
    if client is not None:
        accounts = sorted(client["accounts"], key=lambda each: -each["spent"].get("queries", 0.0))
        output.table(
            f"Data, leaked to servers: {counted(len(accounts), 'input', 'inputs')}, "
            "those sent most often, "
            "in bit per symbol (sum of single sends)",
            ["input", "sent", "first", "journal", "quantum limit", "sent at most"],
            [_input_row(each) for each in accounts[:_SHOWN_INPUTS]],
        )
    for party in ("server", "client"):
        if party in found:
            output.facts(f"{party}", _book_words(found[party]))
            head = found[party]["head"]
            note = f"head, to note down: {head['hash']} after {head['entries']} entries"
            output.people.print(note, soft_wrap=True)
    if "figure" in found:
        output.people.print(found["figure"], soft_wrap=True)


def _copy_words(copy: Mapping[str, Any]) -> str:
    return CopyFigure(**{name: copy[name] for name in _COPY_FIELDS}).in_words()


def _failure_words(spent: Mapping[str, float]) -> str:
    """Say what the bounds that were charged may fail with: the sum over them."""
    failure = spent.get(UNION_BOUND, 0.0)
    if failure == 0.0:
        return "no bound was charged, only light that counts as kept"
    if failure >= 1.0:
        return "the bounds charged hold with no certainty: their failure probabilities add up to 1"
    return f"the bounds charged hold together except with probability {failure:.3g}"


def _weights_row(account: Mapping[str, Any]) -> list[str]:
    spent, reserved, budget = account["spent"], account["reserved"], account["budget"]
    left = account["queries_left"]
    more = "–" if account["queries_left_known"] else "not known"
    limits = ", ".join(f"{value} {name}" for name, value in limits_in_words(budget).items())
    return [
        account["client"],
        account["model_sha256"][:12],
        f"{spent.get('queries', 0.0):.0f}",
        f"{spent.get('bits_per_weight', 0.0):.6g}",
        f"{reserved.get('bits_per_weight', 0.0):.6g}",
        limits or "none",
        "overdrawn" if account["overdrawn"] else more if left is None else str(left),
    ]


def _input_row(account: Mapping[str, Any]) -> list[str]:
    spent, limit = account["spent"], account["budget"].get("queries")
    figures = [
        f"{spent.get(f'bits_per_symbol_{name}', 0.0):.4g} "
        f"({spent.get(f'added_bits_{name}', 0.0):.4g})"
        for name in Formula
    ]
    most = "–" if limit is None else f"{limit:.0f}"
    return [account["input"][:12], f"{spent.get('queries', 0.0):.0f}", *figures, most]


def _book_words(book: Mapping[str, Any]) -> dict[str, str]:
    words = {"adds up": book["composition"]}
    if "per_query" in book:
        words["one query"] = book["per_query"]
    limits = limits_in_words(book["any_account"])
    if limits:
        words["any account"] = ", ".join(f"{value} {name}" for name, value in limits.items())
    if book.get("clients"):
        words["bound clients"] = "\n".join(
            f"{name}: {identity_in_words(key)}" for name, key in book["clients"].items()
        )
    if "operator" in book:
        operator = book["operator"]
        words["operator"] = (
            "none yet: the first set-budget makes its key"
            if operator is None
            else identity_in_words(operator)
        )
    if book["open"]:
        words["reserved"] = "\n".join(
            f"query {query[:12]}: {', '.join(named(account) for account in postings)}"
            for query, postings in book["open"].items()
        )
    recovered = book["head"]["recovered"]
    if recovered:
        words["unfinished"] = f"{recovered} entries that killed processes left unfinished"
    return words


def identity_in_words(identity: str) -> str:
    """Return how somebody is known: by name alone, or the beginning of a key's fingerprint."""
    return identity if identity == NAME_ALONE else f"key {identity[:_SHOWN_DIGITS]}"


def limits_in_words(limits: Mapping[str, float]) -> dict[str, str]:
    """Return limits for people, by unit; information as the bits that it is."""
    meters = [meter for meter in Meter if str(meter) in limits]
    return {meter.words: f"{meter.shown(limits[str(meter)]):.6g}" for meter in meters}


def settlement_json(found: Settlement) -> dict[str, Any]:
    """Return what became of one reservation as plain values."""

    def by_account(amounts: Worst) -> dict[str, dict[str, float]]:
        return {account: as_shown(values) for account, values in amounts.items()}

    return {
        "party": str(found.party),
        "query": found.query,
        "settled": found.booked is not None,
        "why": found.why,
        "process": None if found.holder is None else found.holder.as_json(),
        "queries_reserved": found.queries,
        "queries_sent_at_most": found.sent,
        "reserved": by_account(found.reserved),
        "booked": None if found.booked is None else by_account(found.booked),
    }


def print_settlements(found: Sequence[Settlement], *, dry_run: bool) -> None:
    """Print what became of each open reservation, for people."""
    if not found:
        output.people.print("no reservation is open")
        return
    would = "would be " if dry_run else ""
    booked = f"{would}booked"
    for each in found:
        ended = booked if each.booked else f"{would}freed"
        state = "left open" if each.booked is None else ended
        rows = {"why": each.why, "reserved": _queries_and_bits(each.party, each.reserved)}
        if each.booked:
            rows[booked] = _queries_and_bits(each.party, each.booked)
        output.facts(f"{each.party}, query {each.query[:12]}: {state}", rows)


def _queries_and_bits(party: Party, amounts: Worst) -> str:
    """Return the amounts of a reservation: at the server by account, of inputs all together."""
    total = sum(values.get(Meter.QUERIES, 0.0) for values in amounts.values())
    if party is Party.CLIENT:
        inputs = counted(len(amounts), "input", "inputs")
        return f"{counted(round(total), 'query', 'queries')} of {inputs}"
    return "\n".join(
        f"{counted(round(values.get(Meter.QUERIES, 0.0)), 'query', 'queries')}, "
        f"{values.get(Meter.WEIGHT_BITS, 0.0):.6g} {Meter.WEIGHT_BITS.words}: {named(account)}"
        for account, values in amounts.items()
    )
