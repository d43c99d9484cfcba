"""`labctl blocks`: which block size a rotation with loss and errors per mode allows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from labctl.cli import link_options, options, output
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
        float | None,
        typer.Option("--f", help="Signal-to-noise ratio F that the client needs, above 0."),
    ] = None,
    mu: options.OptionalMu = None,
    gain: options.Gain = 1.3,
    receiver: link_options.Receiver = ReceiverKind.AMPLIFIER,
    rotation_loss_db_per_mode: options.RotationLoss = 0.0,
    coupler_error_rad: options.CouplerError = 0.0,
    phase_error_rad: options.PhaseError = 0.0,
    modes: options.Modes = 392,
    rows: options.Rows = 784,
    loss_db: options.LossDb = 0.0,
    loss: link_options.LossTrust = Trust.UNTRUSTED,
    technical_noise: options.TechnicalNoise = 0.0,
    noise: link_options.NoiseTrust = Trust.UNTRUSTED,
    weights_bits: Annotated[
        float | None,
        typer.Option(
            "--weights-bits-honest",
            help="Maximum leakage to an honest client in bits per real weight and query.",
            rich_help_panel=options.LIMITS,
        ),
    ] = None,
    data_bits: options.OptionalDataBits = None,
    json: options.Json = False,
) -> None:
    """Compare clone noise per block with loss per mode, and give the best block size.

    One of --f and --mu is needed: with --f, μ follows for each block size.
    """
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
