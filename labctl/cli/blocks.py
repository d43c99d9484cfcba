"""`labctl blocks`: which block size a rotation with loss and errors per mode allows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from labctl.cli import output
from labctl.cli.choices import assumptions
from labctl.errors import SettingError
from labctl.protocols.blocks import (
    BlockLimits,
    BlockOption,
    BlockQuestion,
    best_block,
    block_options,
)
from labctl.protocols.leakage import Trust
from labctl.protocols.receiver import IDEAL_HOMODYNE, ReceiverKind, receiver_of
from labctl.protocols.rotation import Rotation
from labctl.run.report import finite


def blocks(
    signal_to_noise: Annotated[
        float | None, typer.Option("--f", help="F that the client needs; sets μ per block size.")
    ] = None,
    mu: Annotated[float | None, typer.Option(help="Mean photon number per mode.")] = None,
    gain: Annotated[float, typer.Option(help="Gain G of the client's amplifier, above 1.")] = 1.3,
    receiver: Annotated[
        ReceiverKind, typer.Option(help="How the client clones a mode.")
    ] = ReceiverKind.AMPLIFIER,
    rotation_loss_db_per_mode: Annotated[
        float, typer.Option(help="Loss of each element of the rotation, each way.")
    ] = 0.0,
    coupler_error_rad: Annotated[
        float, typer.Option(help="Standard deviation of the couplers' errors.")
    ] = 0.0,
    phase_error_rad: Annotated[
        float, typer.Option(help="Standard deviation of the phases' errors.")
    ] = 0.0,
    modes: Annotated[int, typer.Option(help="Modes n that carry one row.")] = 392,
    rows: Annotated[int, typer.Option(help="Rows M that carry the same input.")] = 784,
    loss_db: Annotated[float, typer.Option(help="Loss of the link's round trip in dB.")] = 0.0,
    loss: Annotated[
        Trust, typer.Option(help="Untrusted (the worst case): the client may hold lost light.")
    ] = Trust.UNTRUSTED,
    technical_noise: Annotated[float, typer.Option(help="Technical noise in SNU.")] = 0.0,
    noise: Annotated[
        Trust, typer.Option(help="Untrusted (the worst case): technical noise is the client's.")
    ] = Trust.UNTRUSTED,
    weights_bits: Annotated[
        float | None, typer.Option(help="Most bits per real weight and query.")
    ] = None,
    data_bits: Annotated[
        float | None, typer.Option(help="Most bits per data symbol, journal version.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Weigh clone noise per block against loss per mode, and name the best block size."""
    if signal_to_noise is None and mu is None:
        raise SettingError("--f and --mu", None, "one of the two")
    question = BlockQuestion(
        modes=modes,
        rows=rows,
        rotation=Rotation(rotation_loss_db_per_mode, coupler_error_rad, phase_error_rad),
        receiver=receiver_of(receiver, gain, 1.0, IDEAL_HOMODYNE),
        loss_db=loss_db,
        technical_noise=technical_noise,
        assumptions=assumptions(loss, noise),
        mean_photons=mu,
        signal_to_noise=signal_to_noise,
    )
    limits = BlockLimits(weights_bits_per_real=weights_bits, data_bits_journal=data_bits)
    options = block_options(question)
    best = best_block(question, limits)
    spoken = [*question.assumptions.sentences(), "loss in the rotation is always untrusted"]
    if json:
        output.print_json(
            {
                "best": finite(asdict(best)),
                "options": [
                    {**finite(asdict(option)), "breaks": list(limits.broken_by(option))}
                    for option in options
                ],
                "assumptions": spoken,
            }
        )
        return
    output.table(
        f"Blocks of a row of {modes} modes, G = {gain:g}, {rotation_loss_db_per_mode:g} dB per "
        "mode each way",
        ["modes b", "blocks", "μ", "F", "T", "ε / SNU", "bit/weight (honest)", "bit/datum", ""],
        [_row(option, limits, best) for option in options],
        numeric=True,
    )
    output.people.print("assumes: " + "; ".join(spoken), style="dim")


def _row(option: BlockOption, limits: BlockLimits, best: BlockOption) -> list[str]:
    broken = "; ".join(limits.broken_by(option))
    return [
        str(option.block_modes),
        str(option.blocks),
        *(
            output.number(value, 3)
            for value in (
                option.mean_photons,
                option.signal_to_noise,
                option.transmittance,
                option.excess_noise,
                option.weights_bits_per_real,
                option.data_bits_journal,
            )
        ),
        "best" if option == best else broken,
    ]
