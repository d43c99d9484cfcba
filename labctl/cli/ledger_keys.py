"""`labctl ledger client-key|add-client`: a client makes its key, an operator binds its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl.cli import options, output
from labctl.errors import SettingError
from labctl.protocols.ledger.accounts import Party, checked_client
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.files import disk
from labctl.protocols.ledger.signing import PublicKey, SigningKey


def client_key(
    file: Annotated[Path, typer.Argument(help="New file for the private key.")],
    json: options.Json = False,
) -> None:
    """Make a client's private key, which only its owner may read, and print the public one.

    The private key never leaves the client. The server's operator needs the public one, for
    labctl ledger add-client.
    """
    if not file.parent.is_dir():
        raise SettingError("client key", str(file), "in a folder that is there")
    with disk("client key"):
        try:
            key = SigningKey.make(file)
        except FileExistsError as error:
            valid = "a new file: this is there already"
            raise SettingError("client key", str(file), valid) from error
    if json:
        output.print_json(
            {
                "private_key": str(file),
                "public_key": key.public_pem,
                "fingerprint": key.public.fingerprint,
            }
        )
        return
    # Only this goes to stdout, so that it can be written to a file.
    print(key.public_pem, end="")
    output.say_step(f"private key in {file}; fingerprint of the public one:")
    output.say_step(key.public.fingerprint)


def add_client(
    name: Annotated[str, typer.Argument(help="Client, by its name at the server.")],
    public_key: Annotated[Path, typer.Option(help="File of the client's public key (PEM).")],
    ledger: options.Ledger = options.DEFAULT_LEDGER,
    keys: options.LedgerKeys = None,
    operator_keys: options.OptionalOperatorKeys = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the key that the name is bound to.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Bind a client's name to a key: from now on its runs have to prove that they hold it.

    Needs the operator's key, by default in FOLDER-operator. The ledger keeps the key's
    fingerprint, the SHA-256 of its SubjectPublicKeyInfo.
    """
    checked_client(name)
    public = PublicKey.read(public_key)
    book = Ledger(
        ledger, Party.SERVER, keys=keys, operator_keys=operator_keys, on_notice=output.say_step
    )
    before = book.add_client(name, public, book.operator(), replace_key=replace)
    if json:
        output.print_json(
            {
                "folder": str(ledger),
                "client": name,
                "fingerprint": public.fingerprint,
                "before": before,
            }
        )
        return
    output.people.print(f"client {name} is bound to {public.fingerprint}", soft_wrap=True)
    if before not in {None, public.fingerprint}:
        output.people.print(f"and no longer to {before}", soft_wrap=True)
