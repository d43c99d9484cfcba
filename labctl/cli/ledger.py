"""`labctl ledger show|set-budget|settle|verify|…`: what leaked, what may, is it all there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl import checks
from labctl.cli import options, output
from labctl.cli.ledger_keys import add_client, client_key
from labctl.cli.ledger_shown import (
    Formula,
    book_json,
    by_name,
    chosen,
    draw,
    limits_in_words,
    print_books,
    print_settlements,
    settlement_json,
)
from labctl.data.models import load_network
from labctl.errors import RecordError, SettingError, UsageError
from labctl.protocols.copies.figure import load_once
from labctl.protocols.copies.table import Order
from labctl.protocols.ledger.accounts import (
    ANY,
    Party,
    checked_client,
    title,
    weights_account,
)
from labctl.protocols.ledger.amounts import (
    MOST,
    Amounts,
    Meter,
    information_of_bits,
    limits_of,
)
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.settle import settle

app = typer.Typer(
    help="Show what has leaked and what may still leak; set budgets; check that nothing changed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("add-client")(add_client)
app.command("client-key")(client_key)

_DIGITS = re.compile(r"[0-9a-f]{4,64}")
# More than any digitizer tells of a symbol; a slip beyond.
_MOST_BITS_PER_SYMBOL = 16.0


@app.command()
def show(
    ledger: options.Ledger = options.DEFAULT_LEDGER,
    keys: options.LedgerKeys = None,
    client: options.OptionalClient = None,
    model: options.OptionalModel = None,
    figure: options.OptionalFigure = None,
    json: options.Json = False,
) -> None:
    """Show what is spent, reserved and allowed on each account, and the heads to note down.

    --model may also be the SHA-256 of a network or its beginning. The figure shows bits against
    queries, with the budget.
    """
    output.require_png(figure)
    digest = None if model is None else _digest(model)
    books = _existing(ledger, keys)
    found: dict[str, Any] = {"folder": str(ledger)}
    for book in books:
        accounts = chosen(book, client, digest)
        found[str(book.party)] = book_json(book, accounts)
        if figure is not None and book.party is Party.SERVER:
            draw(figure, book, accounts)
            found["figure"] = str(figure)
    if figure is not None and "figure" not in found:
        raise UsageError(f"no server ledger in {ledger}: nothing to draw")
    if json:
        output.print_json(found)
        return
    print_books(found)


@app.command("set-budget")
def set_budget(
    ledger: options.Ledger = options.DEFAULT_LEDGER,
    keys: options.LedgerKeys = None,
    operator_keys: options.OptionalOperatorKeys = None,
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

    Limits of a server need its operator's key, by default in FOLDER-operator. Limits per symbol
    and of repeats are the client's own, and hold for any input. --model may also
    be the SHA-256 of a network. --copy-accuracy needs --client and --model, a
    network whose copies were measured.
    """
    for name, number in (("--max-queries", queries), ("--max-repeats", repeats)):
        if number is not None:
            # Before it becomes a float: a whole number may have any number of digits.
            checks.within(name, number, 0, MOST)
    if copy_accuracy is not None:
        checks.inside("--copy-accuracy", copy_accuracy, 0.0, 1.0)
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
        _check_copies(copy_accuracy, account, model)
    changed: dict[str, dict[str, Any]] = {}
    for party, values in limits.items():
        if values or (unlimited and party is Party.SERVER) or (unlimited and account == ANY):
            name = account if party is Party.SERVER else ANY
            book = Ledger(
                ledger,
                party,
                keys=keys,
                operator_keys=operator_keys,
                on_notice=output.say_step,
            )
            operator = book.operator() if party is Party.SERVER else None
            book.set_budget(name, values, operator=operator)
            changed[str(party)] = {"account": name, "limits": by_name(Amounts.of(values))}
    if json:
        output.print_json({"folder": str(ledger), **changed})
        return
    for each in changed.values():
        words = limits_in_words(each["limits"]) or {"limits": "none"}
        output.facts("Budget", {"account": title(each["account"]), **words})


def _check_copies(accuracy: float, account: str, model: str | None) -> None:
    """Refuse a budget in accuracy that could not be held."""
    if account == ANY or model is None:
        valid = "given with --client and --model: what a copy is worth was measured per network"
        raise SettingError("--copy-accuracy", accuracy, valid)
    digest = account.partition("/")[2]
    refusals = [load_once().refusal_of(digest, model, order) for order in Order]
    if all(refused is not None for refused in refusals):
        raise SettingError("--copy-accuracy", accuracy, f"left out: {refusals[0]}")


@app.command()
def verify(
    ledger: options.Ledger = options.DEFAULT_LEDGER,
    keys: options.LedgerKeys = None,
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


@app.command("settle")
def settle_killed(
    ledger: options.Ledger = options.DEFAULT_LEDGER,
    keys: options.LedgerKeys = None,
    operator_keys: options.OptionalOperatorKeys = None,
    presume_ended: Annotated[
        bool,
        typer.Option(
            "--presume-ended",
            help="Also book, at the worst, what processes reserved that cannot be looked up here: "
            "of another computer, or from before processes were named. Your word that they ended; "
            "needs the key of the server's operator.",
        ),
    ] = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Book what killed processes left reserved: by what they noted as sent, or all of it.

    Nothing is settled while its process runs. Where nothing was noted, or the notes are not whole,
    all that was reserved is booked.
    """
    found = [
        each
        for book in _existing(ledger, keys, operator_keys)
        for each in settle(book, presume_ended=presume_ended, dry_run=dry_run)
    ]
    if json:
        values = {"folder": str(ledger), "dry_run": dry_run}
        output.print_json({**values, "reservations": [settlement_json(each) for each in found]})
        return
    print_settlements(found, dry_run=dry_run)


def _verified_words(found: Mapping[str, Any]) -> dict[str, str]:
    words = {"file": found["file"], "entries": str(found["entries"]), "head": found["head"]}
    if found["recovered"]:
        words["unfinished"] = f"{found['recovered']} entries that killed processes left unfinished"
    if found["trailing_bytes"]:
        words["behind the last"] = (
            f"{found['trailing_bytes']} bytes of an entry that was not finished; it never counted"
        )
    return words


def _existing(folder: Path, keys: Path | None, operator_keys: Path | None = None) -> list[Ledger]:
    books = [
        Ledger(folder, party, keys=keys, operator_keys=operator_keys, on_notice=output.say_step)
        for party in Party
    ]
    existing = [book for book in books if book.exists]
    if not existing:
        raise UsageError(
            f"no ledger in {folder}: labctl infer --ledger, or labctl ledger set-budget, starts one"
        )
    return existing


def _given(limits: Mapping[Meter, float | None]) -> dict[Meter, float]:
    given = {meter: value for meter, value in limits.items() if value is not None}
    return limits_of(given)


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
