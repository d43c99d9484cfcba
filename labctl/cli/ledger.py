"""`labctl ledger show|set-budget|verify`: what has leaked so far, what may, and is it all there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl import checks
from labctl.cli import options, output
from labctl.data.models import load_network
from labctl.errors import RecordError, SettingError
from labctl.protocols.copies.figure import CopyFigure, load_once
from labctl.protocols.copies.table import Order
from labctl.protocols.leakage import MEAN_OVER_SESSION
from labctl.protocols.ledger.accounts import (
    ANY,
    Balance,
    Party,
    checked_client,
    named,
    weights_account,
)
from labctl.protocols.ledger.amounts import Amounts, Meter, information_of_bits
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.charges import COMPOSITION_OF_DATA, COMPOSITION_OF_WEIGHTS
from labctl.protocols.ledger.collective_store import CollectiveStore
from labctl.protocols.ledger.copy_account import CopyAccount, CopyBudget
from labctl.protocols.ledger.cumulative_account import CumulativeAccount
from labctl.protocols.ledger.entries import Reserved
from labctl.protocols.ledger.further import COUNTLESS, QueryTerms
from labctl.protocols.ledger.run import additive_bits, composition

app = typer.Typer(
    help="Show what has leaked and what may still leak; set budgets; check that nothing changed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

PER_QUERY = f"bits per weight and query that entries hold are of a session: {MEAN_OVER_SESSION}"
_SHOWN_INPUTS = 5
_DIGITS = re.compile(r"[0-9a-f]{4,64}")
_MOST_BITS_PER_SYMBOL = 16.0
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


_KEYS = Annotated[
    Path | None, typer.Option(help="Folder of its keys and heads (default: FOLDER-keys).")
]


@app.command()
def show(
    ledger: options.Ledger = options.DEFAULT_LEDGER,
    keys: _KEYS = None,
    client: options.OptionalClient = None,
    model: options.OptionalModel = None,
    figure: options.OptionalFigure = None,
    json: options.Json = False,
) -> None:
    """Show what is spent, reserved and allowed on each account, and the heads to note down.

    --model may also be the SHA-256 of a network or its beginning. The figure shows bits against
    queries, with the budget.
    """
    if figure is not None:
        _check_png(figure)
    digest = None if model is None else _digest(model)
    books = _existing(ledger, keys)
    found: dict[str, Any] = {"folder": str(ledger)}
    for book in books:
        chosen = _chosen(book, client, digest)
        found[str(book.party)] = _book_json(book, chosen)
        if figure is not None and book.party is Party.SERVER:
            _draw(figure, book, chosen)
            found["figure"] = str(figure)
    if figure is not None and "figure" not in found:
        raise RecordError(f"no server ledger in {ledger}: nothing to draw")
    if json:
        output.print_json(found)
        return
    _show(found)


@app.command("set-budget")
def set_budget(
    ledger: options.Ledger = options.DEFAULT_LEDGER,
    keys: _KEYS = None,
    client: options.OptionalClient = None,
    model: options.OptionalModel = None,
    bits_per_weight: Annotated[
        float | None,
        typer.Option(
            help="Maximum leakage in bits per real weight, over all queries.",
            rich_help_panel=options.LIMITS,
        ),
    ] = None,
    bits_in_total: Annotated[
        float | None,
        typer.Option(
            help="Maximum leakage in bits of all weights together, over all queries.",
            rich_help_panel=options.LIMITS,
        ),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            "--max-queries",
            help="Maximum number of queries; a quota against chosen inputs.",
            rich_help_panel=options.LIMITS,
        ),
    ] = None,
    copy_accuracy: options.OptionalCopyAccuracy = None,
    bits_per_symbol: Annotated[
        float | None,
        typer.Option(
            help="Maximum leakage in bits per symbol of any one input, over its repeats.",
            rich_help_panel=options.LIMITS,
        ),
    ] = None,
    formula: Annotated[
        Formula,
        typer.Option(
            help="Formula of the leakage that --bits-per-symbol limits.",
            rich_help_panel=options.LIMITS,
        ),
    ] = Formula.QUANTUM,
    repeats: Annotated[
        int | None,
        typer.Option(
            "--max-repeats",
            help="Maximum number of times that any one input is sent.",
            rich_help_panel=options.LIMITS,
        ),
    ] = None,
    unlimited: Annotated[
        bool,
        typer.Option(
            "--unlimited",
            help="Remove the account's own budget.",
            rich_help_panel=options.LIMITS,
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Replace all limits of a client on a model; without both, the limits for any account.

    A limit for any account also holds for an account that lacks this kind of limit.

    Limits per symbol and of repeats are the client's own, and hold for any input. --model may also
    be the SHA-256 of a network or its beginning. --copy-accuracy needs --client and --model, a
    network whose copies were measured.
    """
    weights = {
        Meter.WEIGHT_BITS: bits_per_weight,
        Meter.TOTAL_BITS: bits_in_total,
        Meter.QUERIES: None if queries is None else float(queries),
        Meter.COPY_ACCURACY: copy_accuracy,
    }
    data = {
        formula.meter: None if bits_per_symbol is None else _information(bits_per_symbol),
        Meter.QUERIES: None if repeats is None else float(repeats),
    }
    limits = {Party.SERVER: _given(weights), Party.CLIENT: _given(data)}
    if unlimited == any(limits.values()):
        raise SettingError("budget", "nothing", "at least one limit, or --unlimited and no limit")
    account = _account(client, model)
    if account != ANY and not limits[Party.SERVER] and not unlimited:
        raise SettingError("--client", client, "left out: limits per input hold for any input")
    if copy_accuracy is not None:
        _check_copies(copy_accuracy, account)
    changed: dict[str, dict[str, Any]] = {}
    for party, values in limits.items():
        if values or (unlimited and party is Party.SERVER) or (unlimited and account == ANY):
            name = account if party is Party.SERVER else ANY
            book = Ledger(ledger, party, keys=keys, on_notice=output.say_step)
            book.set_budget(name, values)
            changed[str(party)] = {"account": name, "limits": _told(Amounts.of(values))}
    if json:
        output.print_json({"folder": str(ledger), **changed})
        return
    for each in changed.values():
        words = _words(each["limits"]) or {"limits": "none"}
        output.facts("Budget", {"account": _title(each["account"]), **words})


def _check_copies(accuracy: float, account: str) -> None:
    """Refuse a budget in accuracy that could not be held."""
    checks.inside("--copy-accuracy", accuracy, 0.0, 1.0)
    if account == ANY:
        valid = "given with --client and --model: what a copy is worth was measured per network"
        raise SettingError("--copy-accuracy", accuracy, valid)
    digest = account.partition("/")[2]
    refusals = [load_once().refusal_of(digest, digest[:12], order) for order in Order]
    if all(refused is not None for refused in refusals):
        raise SettingError("--copy-accuracy", accuracy, f"left out: {refusals[0]}")


@app.command()
def verify(
    ledger: options.Ledger = options.DEFAULT_LEDGER,
    keys: _KEYS = None,
    server_head: Annotated[
        str | None, typer.Option(help="Hash of the server's head, as noted elsewhere.")
    ] = None,
    client_head: Annotated[
        str | None, typer.Option(help="Hash of the client's head, as noted elsewhere.")
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Write lost heads again; entries that were cut off before are then not detected.",
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Check every byte of the ledger against its chain, its key and its head."""
    noted = {Party.SERVER: server_head, Party.CLIENT: client_head}
    found: dict[str, Any] = {}
    books = _existing(ledger, keys)
    for party, head in noted.items():
        if head is not None and party not in {book.party for book in books}:
            raise RecordError(f"no {party} ledger in {ledger}, but its head was noted")
    for book in books:
        if rebuild and not book.has_head:
            book.rebuild()
        result = book.verify(noted[book.party])
        found[str(book.party)] = {
            "file": str(book.path),
            "entries": result.entries,
            "head": result.head,
            "recovered": result.recovered,
            "trailing_bytes": result.trailing_bytes,
        }
    if json:
        output.print_json({"folder": str(ledger), "verified": True, **found})
        return
    for name, each in found.items():
        output.facts(f"{name}: every entry holds", _verified_words(each))


def _verified_words(found: Mapping[str, Any]) -> dict[str, str]:
    words = {"file": found["file"], "entries": str(found["entries"]), "head": found["head"]}
    if found["recovered"]:
        words["unfinished"] = f"{found['recovered']} entries that killed processes left unfinished"
    if found["trailing_bytes"]:
        words["behind the last"] = (
            f"{found['trailing_bytes']} bytes of an entry that was not finished; it never counted"
        )
    return words


def _existing(folder: Path, keys: Path | None) -> list[Ledger]:
    books = [Ledger(folder, party, keys=keys, on_notice=output.say_step) for party in Party]
    existing = [book for book in books if book.exists]
    if not existing:
        raise RecordError(
            f"no ledger in {folder}: labctl infer --ledger, or labctl ledger set-budget, starts one"
        )
    return existing


def _chosen(book: Ledger, client: str | None, digest: str | None) -> list[Balance]:
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


def _book_json(book: Ledger, balances: list[Balance]) -> dict[str, Any]:
    head = book.head()
    names = {balance.account for balance in balances}
    opened = {
        query: postings for query, postings in book.open_queries().items() if names & set(postings)
    }
    composition = COMPOSITION_OF_WEIGHTS if book.party is Party.SERVER else COMPOSITION_OF_DATA
    return {
        "accounts": [_account_json(balance) for balance in balances]
        if book.party is Party.CLIENT
        else _weights_json(book, balances),
        "by_model": _by_model(balances) if book.party is Party.SERVER else [],
        "any_account": _told(book.balance(ANY).limits),
        "open": opened,
        "composition": composition,
        **({"per_query": PER_QUERY} if book.party is Party.SERVER else {}),
        "head": {"entries": head.count, "hash": head.hash, "recovered": head.recovered},
    }


def _account_json(balance: Balance) -> dict[str, Any]:
    client, slash, model = balance.account.partition("/")
    who = {"client": client, "model_sha256": model} if slash else {"input": client}
    return {
        **who,
        "spent": _told(balance.spent),
        "reserved": _told(balance.reserved),
        "budget": _told(balance.limits),
        "overdrawn": balance.overdrawn,
        **({"counted_by": _counted_by(balance)} if slash else {}),
        **({"best_copy": CopyAccount.of(balance).figure(model).as_json()} if slash else {}),
    }


def _weights_json(book: Ledger, balances: list[Balance]) -> list[dict[str, Any]]:
    """Return server accounts with how many queries like those of each one's last run fit."""
    terms = _terms(book, {balance.account for balance in balances})
    return [
        {
            **_account_json(balance),
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
        {"model_sha256": model, "clients": clients, "taken": _told(amounts)}
        for model, (clients, amounts) in sums.items()
    ]


def _told(amounts: Amounts) -> dict[str, float]:
    """Return amounts by name; information also as the bits per symbol that it is."""
    values = amounts.values()
    for meter in amounts.units:
        if meter.is_information:
            name = str(meter).replace("information", "bits_per_symbol")
            values[name] = meter.shown(amounts.value(meter))
    return values


def _draw(path: Path, book: Ledger, balances: list[Balance]) -> None:
    from labctl.protocols.ledger.figure import curves_of, draw_ledger

    note = (
        "committed bits, each on the basis that its entry names; thick: reserved, counts as spent"
    )
    try:
        draw_ledger(path, curves_of(book.entries(), balances), note)
    except OSError as error:
        valid = f"a file to write to ({error.strerror})"
        raise SettingError("--figure", str(path), valid) from error


def _check_png(path: Path) -> None:
    if path.suffix.lower() != ".png" or path.is_dir() or not path.parent.is_dir():
        raise SettingError("--figure", str(path), "a name that ends in .png, in a folder there is")


def _show(found: Mapping[str, Any]) -> None:
    server, client = found.get("server"), found.get("client")
    if server is not None:
        output.table(
            "Weights, leaked to clients, in bit per real weight",
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
            output.people.print(f"{who}: {_copy_words(each['best_copy'])}")
        for each in server["accounts"]:
            if each["counted_by"]["additive"] > 0.0:
                who = f"client {each['client']} on {each['model_sha256'][:12]}"
                output.people.print(f"{who}: {each['counted_by']['in_words'][-1]}")
        for each in server["by_model"]:
            if each["clients"] > 1:
                bits = each["taken"].get("bits_per_weight", 0.0)
                output.people.print(
                    f"all {each['clients']} clients of {each['model_sha256'][:12]} together: "
                    f"{bits:.6g} bit per real weight"
                )
    if client is not None:
        accounts = sorted(client["accounts"], key=lambda each: -each["spent"].get("queries", 0.0))
        output.table(
            f"Data, leaked to servers: {len(accounts)} inputs, those sent most often, "
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


def _weights_row(account: Mapping[str, Any]) -> list[str]:
    spent, reserved, budget = account["spent"], account["reserved"], account["budget"]
    left = account["queries_left"]
    more = "–" if account["queries_left_known"] else "not known"
    limits = ", ".join(f"{value} {name}" for name, value in _words(budget).items())
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
    limits = _words(book["any_account"])
    if limits:
        words["any account"] = ", ".join(f"{value} {name}" for name, value in limits.items())
    if book["open"]:
        words["reserved"] = "\n".join(
            f"query {query[:12]}: {', '.join(named(account) for account in postings)}"
            for query, postings in book["open"].items()
        )
    recovered = book["head"]["recovered"]
    if recovered:
        words["unfinished"] = f"{recovered} entries that killed processes left unfinished"
    return words


def _words(limits: Mapping[str, float]) -> dict[str, str]:
    """Return limits for people, by unit; information as the bits that it is."""
    meters = [meter for meter in Meter if str(meter) in limits]
    return {meter.words: f"{meter.shown(limits[str(meter)]):.6g}" for meter in meters}


def _given(limits: Mapping[Meter, float | None]) -> dict[Meter, float]:
    given = {meter: value for meter, value in limits.items() if value is not None}
    Amounts.of(given)
    return given


def _information(bits: float) -> float:
    checks.within("bits_per_symbol", bits, 0.0, _MOST_BITS_PER_SYMBOL)
    return information_of_bits(bits)


def _account(client: str | None, model: str | None) -> str:
    if (client is None) != (model is None):
        raise SettingError("--client and --model", client or model, "both, or neither for any")
    if client is None or model is None:
        return ANY
    digest = _digest(model)
    return weights_account(checked_client(client), digest)


def _digest(model: str) -> str:
    """Return a model's SHA-256, or the beginning of one that was given."""
    if _DIGITS.fullmatch(model) and not Path(model).exists():
        return model
    return load_network(model).sha256


def _title(account: str) -> str:
    return "any account" if account == ANY else named(account)
