"""`labctl leakage`: the closed-form leakage of a setting, with its assumptions."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from labctl.cli import output
from labctl.cli.choices import assumptions
from labctl.data.models import Network, load_network
from labctl.errors import SettingError
from labctl.protocols.leakage import LayerShape, Trust
from labctl.protocols.leakage.cumulative import IN_WORDS, Cumulative
from labctl.protocols.weight_distribution import WeightDistribution
from labctl.run.report import finite, leakage_json
from labctl.run.setting import leakage_of_setting


def leakage(
    mu: Annotated[float, typer.Option(help="Mean photon number per mode.")],
    gain: Annotated[float, typer.Option(help="Gain G of the client's amplifier, above 1.")],
    modes: Annotated[int, typer.Option(help="Modes n that carry one row.")] = 392,
    rows: Annotated[int, typer.Option(help="Rows M that carry the same input.")] = 784,
    loss_db: Annotated[float, typer.Option(help="Loss of the round trip in dB.")] = 0.0,
    loss: Annotated[
        Trust, typer.Option(help="Untrusted (the worst case): the client may hold lost light.")
    ] = Trust.UNTRUSTED,
    technical_noise: Annotated[float, typer.Option(help="Technical noise in SNU.")] = 0.0,
    noise: Annotated[
        Trust, typer.Option(help="Untrusted (the worst case): technical noise is the client's.")
    ] = Trust.UNTRUSTED,
    block_modes: Annotated[
        int | None, typer.Option(help="Modes that the rotation collects at a time (default: all).")
    ] = None,
    rotation_loss_db_per_mode: Annotated[
        float, typer.Option(help="Loss of each element of the rotation, each way; untrusted.")
    ] = 0.0,
    model: Annotated[
        str | None,
        typer.Option(help="Network (shipped name or file) whose own bound to give; sets the rows."),
    ] = None,
    queries: Annotated[int, typer.Option(help="Queries of the same weights.")] = 1,
    honest_prior: Annotated[
        bool,
        typer.Option(
            "--honest-prior",
            help="Cumulative figures for independent weights of one variance instead of the worst "
            "Gaussian prior.",
        ),
    ] = False,
    failure_probability: Annotated[
        float, typer.Option(help="Of the bound on the noise that repeats from query to query.")
    ] = 1e-10,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say how much one query leaks, to whom, and under which assumptions."""
    for name, value in (("modes", modes), ("rows", rows)):
        if value < 1:
            raise SettingError(name, value, "1 or more")
    for name, real in (("mu", mu), ("gain", gain)):
        if not math.isfinite(real):
            raise SettingError(name, real, "a finite number")
    shape: LayerShape | Network = LayerShape(
        rows=rows, modes=modes, inputs=2 * modes, block_modes=block_modes
    )
    if model is not None:
        shape = load_network(model)
    setting = leakage_of_setting(
        shape,
        mean_photons=mu,
        gain=gain,
        loss_db=loss_db,
        technical_noise=technical_noise,
        assumptions=assumptions(loss, noise),
        queries=queries,
        block_modes=block_modes,
        rotation_loss_db_per_mode=rotation_loss_db_per_mode,
        honest_prior=honest_prior,
        failure_probability=failure_probability,
    )
    found, together = setting.one, setting.together
    modes, rows = setting.first.modes, setting.first.rows
    values = leakage_json(found, queries=queries)
    values["cumulative"] = finite(together.as_json())
    distribution = setting.distribution
    values["weight_distribution"] = None if distribution is None else distribution.as_json()
    if json:
        output.print_json(
            {"mu": mu, "gain": gain, "modes": modes, "rows": rows, "loss_db": loss_db,
             "block_modes": block_modes, "model": model,
             "rotation_loss_db_per_mode": rotation_loss_db_per_mode,
             "technical_noise": technical_noise, **values}
        )  # fmt: skip
        return
    output.facts(
        f"Leakage at μ = {mu:g}, G = {gain:g}, n = {modes} modes, M = {rows} rows",
        {
            "weights, prior-free": f"{found.weights_bits_prior_free:.5g} bit per real weight: no "
            "Gaussian prior and no Gaussian attack gives more",
            "weights, this network": "not known: give --model"
            if found.weights_bits_network is None
            else f"{found.weights_bits_network:.5g} bit per real weight: by its own covariance",
            "weights, honest": f"{found.weights_bits_per_real:.5g} bit per real weight, "
            f"{found.weights_bits_per_mode:.5g} per mode: weights alike, noise spread evenly",
            **_distributed(distribution),
            "weights, per query": f"{found.weights_bits_per_query:.5g} bit; 1 bit per weight after "
            f"{found.queries_per_bit_per_weight:.4g} queries",
            "weights, all queries": _together(together),
            "data, first version": f"{found.data_bits_first:.4g} bit per symbol, "
            f"{found.data_bits_first_per_input:.4g} per input",
            "data, journal": f"{found.data_bits_journal:.4g} bit per symbol, "
            f"{found.data_bits_journal_per_input:.4g} per input",
            "data, quantum limit": f"{found.data_bits_quantum:.4g} bit per symbol, "
            f"{found.data_bits_quantum_per_input:.4g} per input",
            "excess noise": f"{found.excess_noise:.5g} SNU at the server",
            "assumes": "\n".join(found.assumptions.sentences()),
        },
    )


def _distributed(found: WeightDistribution | None) -> dict[str, str]:
    """Say of discrete weights that no figure above holds, and what does."""
    if found is None or not found.discrete:
        return {}
    told = "a client tells them apart: labctl infer refuses them; " if found.told_apart else ""
    return {"weights, BUT": f"{told}{found.statement()}"}


def _together(found: Cumulative) -> str:
    """Return what all queries leak together, under each assumption."""
    values = found.as_json()
    lines = [f"after {found.queries}, in bit per real weight:"]
    for name in ("collective_upper", "collective", "memory_unchecked", "additive"):
        headline = " (headline)" if name == found.headline else ""
        lines.append(f"{values[name]:.4g} {name}{headline}: {IN_WORDS[name]}")
    return "\n".join(lines)
