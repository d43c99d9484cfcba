"""What trials of two parties begin with: their keys, a small network, and a laser that is asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labctl.data.models import Network, save_network
from labctl.instruments.codecs.itla import FRAME_BYTES
from labctl.instruments.lasers.itla_registers import ItlaRegisters, Register
from labctl.instruments.transports.visa_transport import open_visa_frames
from labctl.parties.authority import Authority, request
from labctl.party import Party

# Few rows: a frame lasts 0.2 ms of light.
SIZES = (784, 8, 10)
# SENA of the register RES_ENA: the output is enabled.
_ENABLED = 0x0008


def hand_out_keys(
    folder: Path, names: Mapping[Party, str], *, server_host: str = "127.0.0.1"
) -> None:
    """Make a key and a certificate for each party, under the folder, by an authority of theirs."""
    authority = Authority.make(folder / "authority", "trial")
    for party, name in names.items():
        hosts = (server_host,) if party is Party.SERVER else ()
        certificate = authority.issue(request(folder / party, party, name, hosts))
        authority.hand_over(certificate, folder / party)


def save_small_network(folder: Path) -> Path:
    """Write a network of `SIZES` with drawn weights; return its file."""
    draw = np.random.default_rng(4)
    layers = [
        draw.normal(size=shape).astype(np.float32)
        for shape in zip(SIZES[1:], SIZES[:-1], strict=True)
    ]
    path = folder / "small.safetensors"
    save_network(Network(tuple(layers), "small", {}), path)
    return path


def emits(address: str, *, timeout_s: float = 2.0) -> bool:
    """Ask a served bench's laser whether it emits, over a separate connection.

    One register is read, and no identification: that takes several frames, which a program that
    talks to the laser at the same time would disturb.
    """
    frames = open_visa_frames(
        "asked",
        address,
        library="@py",
        timeout_s=timeout_s,
        frame_bytes=FRAME_BYTES,
        filler=b"\0",
        baud_rate=9600,
    )
    try:
        return bool(ItlaRegisters(frames, timeout_s).read(Register.RES_ENA) & _ENABLED)
    finally:
        frames.close()
