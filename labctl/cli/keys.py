"""`labctl keys authority|request|issue|renew|revoke|publish|show`: certificates of two parties."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from labctl.cli import options, output
from labctl.errors import IdentityError, SettingError
from labctl.parties import authority as authorities
from labctl.parties.certificates import (
    AUTHORITY,
    CERTIFICATE,
    KEY,
    REQUEST,
    REVOKED,
    Certificate,
    KnownParties,
    utc_now,
)
from labctl.party import Party

app = typer.Typer(
    help="Make the keys and certificates by which a server and a client know each other.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Argument(help="Folder of the party.")]
OfAuthority = Annotated[Path, typer.Option("--authority", help="Folder of the authority.")]
Days = Annotated[
    int,
    typer.Option(
        min=1, max=authorities.AUTHORITY_DAYS, help="Number of days that it is valid, 1 to 3650."
    ),
]


@app.command("authority")
def make_authority(
    folder: Annotated[Path, typer.Argument(help="New folder of the authority.")],
    name: Annotated[str, typer.Option(help="Name of the authority.")] = "labctl-authority",
    days: Days = authorities.AUTHORITY_DAYS,
    json: options.Json = False,
) -> None:
    """Make an authority, which issues certificates to servers and clients.

    Its private key (key.pem) is for the operator alone; authority.pem and revoked.pem are for all.
    """
    made = authorities.Authority.make(folder, name, days=days)
    _print(json, "Authority", _facts(made.certificate, folder / AUTHORITY))


@app.command()
def request(
    folder: Folder,
    role: Annotated[Party, typer.Argument(help="What the party is.")],
    name: Annotated[str, typer.Argument(help="Name of the party; ledgers name a client so.")],
    host: Annotated[
        list[str] | None,
        typer.Option(help="Name or IP address of a server; may be given several times."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Make a party's private key and a request for its certificate.

    The private key never leaves the folder, and only its owner may read it. The authority needs
    the request alone.
    """
    made = authorities.request(folder, role, name, tuple(host or ()))
    values = {"request": str(made), "private_key": str(folder / KEY), "name": name, "role": role}
    _print(json, "Request", values)


@app.command()
def issue(
    request: Annotated[Path, typer.Argument(help="File of the request, or the party's folder.")],
    authority: OfAuthority,
    out: options.OptionalOut = None,
    days: Days = authorities.PARTY_DAYS,
    json: options.Json = False,
) -> None:
    """Issue the certificate that a party asked for.

    Writes it with the authority's certificate and its list of revoked ones, by default into the
    folder of the request. Look at name, role and
    hosts first: the certificate says that they are so.
    """
    file = request / REQUEST if request.is_dir() else request
    issuer = authorities.Authority.read(authority)
    issued = issuer.issue(file, days=days)
    folder = file.parent if out is None else out
    issuer.hand_over(issued, folder)
    _print(json, "Certificate", _facts(issued, folder / CERTIFICATE))


@app.command()
def renew(
    folder: Folder,
    authority: OfAuthority,
    days: Days = authorities.PARTY_DAYS,
    json: options.Json = False,
) -> None:
    """Issue a certificate for the same party and the same key, valid from now on.

    A server that runs shows it from the next connection on. A revoked one is not renewed.
    """
    issuer = authorities.Authority.read(authority)
    renewed = issuer.renew(Certificate.read(folder / CERTIFICATE), days=days)
    issuer.hand_over(renewed, folder)
    _print(json, "Renewed", _facts(renewed, folder / CERTIFICATE))


@app.command()
def revoke(
    certificate: Annotated[Path, typer.Argument(help="File of the certificate, or its folder.")],
    authority: OfAuthority,
    json: options.Json = False,
) -> None:
    """Put a certificate on the authority's signed list of revoked ones.

    It counts where the list is: labctl keys publish writes it into the folder of another party.
    """
    found = Certificate.read(_certificate(certificate))
    authorities.Authority.read(authority).revoke(found)
    _print(json, "Revoked", _facts(found, authority / REVOKED))


@app.command()
def publish(folder: Folder, authority: OfAuthority, json: options.Json = False) -> None:
    """Write the authority's certificate and its list of revoked ones into a party's folder.

    A party that runs reads the list again for each party that comes. A list is valid for a year.
    """
    if not folder.is_dir():
        raise SettingError("folder", str(folder), "a folder of a party")
    authorities.Authority.read(authority).publish(folder)
    values = {"authority": str(folder / AUTHORITY), "revoked": str(folder / REVOKED)}
    _print(json, "Published", values)


@app.command()
def show(
    certificate: Annotated[Path, typer.Argument(help="File of the certificate, or its folder.")],
    at: Annotated[
        Path | None, typer.Option(help="Folder of a party that is to accept it (default: its own).")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show whose a certificate is, its role, its end, its fingerprint, and whether it holds.

    Exits with 2 for one that is expired, revoked or foreign. The fingerprint is that of the key:
    a renewed certificate has the same one.
    """
    file = _certificate(certificate)
    found = Certificate.read(file)
    trust = KnownParties(file.parent if at is None else at)
    refusal = None if found.role is None else trust.refusal_of(found, found.role)
    values = {**_facts(found, file), "refused": refusal}
    _print(json, "Certificate", values)
    if refusal is not None:
        raise IdentityError(refusal)


def _certificate(path: Path) -> Path:
    if not path.is_dir():
        return path
    own = path / CERTIFICATE
    return own if own.exists() else path / AUTHORITY


def _facts(found: Certificate, file: Path) -> dict[str, Any]:
    return {
        "file": str(file),
        "name": found.name,
        "role": "authority" if found.role is None else str(found.role),
        "hosts": [*found.hosts],
        "expires": f"{found.expires:%Y-%m-%dT%H:%M:%SZ}",
        "days_left": (found.expires - utc_now()).days,
        "fingerprint": found.fingerprint,
    }


def _print(json: bool, title: str, values: dict[str, Any]) -> None:
    if json:
        output.print_json(values)
        return
    words = {
        name.replace("_", " "): ", ".join(each) if isinstance(each, list) else str(each)
        for name, each in values.items()
        if each not in (None, [])
    }
    # Whole, on one line, also where the table is narrow.
    key = words.pop("fingerprint", None)
    output.facts(title, words)
    if key is not None:
        output.people.print(f"fingerprint of the key: {key}", soft_wrap=True)
