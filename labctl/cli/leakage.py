"""`labctl leakage`: the closed-form leakage of a setting, with its assumptions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from labctl import checks
from labctl.cli import link_options, options, output
from labctl.cli.choices import assumptions
from labctl.data.models import load_network
from labctl.protocols.leakage import MEAN_OVER_SESSION, Trust
from labctl.protocols.leakage.cumulative import IN_WORDS, Cumulative
from labctl.protocols.weight_distribution import WeightDistribution
from labctl.run.report import finite, leakage_json
from labctl.run.setting import LeakageOfSetting, leakage_of_setting, shape_asked


def leakage(
    mu: options.Mu,
    gain: options.Gain,
    modes: options.OptionalModes = None,
    rows: options.OptionalRows = None,
    loss_db: options.LossDb = 0.0,
    loss: link_options.LossTrust = Trust.UNTRUSTED,
    technical_noise: options.TechnicalNoise = 0.0,
    noise: link_options.NoiseTrust = Trust.UNTRUSTED,
    block_modes: options.OptionalBlockModes = None,
    rotation_loss_db_per_mode: options.RotationLoss = 0.0,
    model: options.OptionalModel = None,
    queries: Annotated[
        int, typer.Option(help="Number of queries of the same weights, 1 to 1e12.")
    ] = 1,
    honest_prior: Annotated[
        bool,
        typer.Option(
            "--honest-prior",
            help="Give cumulative figures for independent weights of one variance, instead of the "
            "worst Gaussian prior.",
        ),
    ] = False,
    failure_probability: options.FailureProbability = 1e-10,
    json: options.Json = False,
) -> None:
    """Compute how much one query leaks, to whom, and under which assumptions.

    --model adds the bound for that network's own weights, and takes the place of --modes and
    --rows, 392 and 784 unless given.
    """
    for name, real in (("mu", mu), ("gain", gain)):
        checks.finite(name, real)
    shape = shape_asked(
        None if model is None else lambda: load_network(model), modes, rows, block_modes
    )
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
    modes, rows = setting.first.modes, setting.first.rows
    if json:
        output.print_json(
            {"mu": mu, "gain": gain, "modes": modes, "rows": rows, "loss_db": loss_db,
             "block_modes": block_modes, "model": model,
             "rotation_loss_db_per_mode": rotation_loss_db_per_mode,
             "technical_noise": technical_noise, **_as_json(setting, queries)}
        )  # fmt: skip
    else:
        _show(setting, mu, gain, "honest prior" if honest_prior else "prior-free")


def _as_json(setting: LeakageOfSetting, queries: int) -> dict[str, Any]:
    """Return the figures of one query, of all together, and how the weights lie."""
    distribution = setting.distribution
    return {
        **leakage_json(setting.one, queries=queries),
        "cumulative": finite(setting.together.as_json()),
        "weight_distribution": None if distribution is None else distribution.as_json(),
    }


def _show(setting: LeakageOfSetting, mu: float, gain: float, prior: str) -> None:
    """Print the figures for people; `prior` that those of all queries are for."""
    found, modes, rows = setting.one, setting.first.modes, setting.first.rows
    output.facts(
        f"Leakage at μ = {mu:g}, G = {gain:g}, n = {modes} modes, M = {rows} rows",
        {
            "weights, prior-free": f"{found.weights_bits_prior_free:.5g} bit per real weight: the "
            "worst Gaussian prior of this mean power",
            "weights, this network": "not known: give --model"
            if found.weights_bits_network is None
            else f"{found.weights_bits_network:.5g} bit per real weight: by its own covariance",
            "weights, honest": f"{found.weights_bits_per_real:.5g} bit per real weight, "
            f"{found.weights_bits_per_mode:.5g} per mode: weights alike, noise spread evenly",
            **_distributed(setting.distribution),
            "weights, per query": f"{found.weights_bits_per_query:.5g} bit (prior-free); 1 bit per "
            f"weight after {found.queries_per_bit_per_weight:.4g} queries; "
            f"{MEAN_OVER_SESSION}",
            "weights, all queries": _together(setting.together, prior),
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
    warning = "a client tells them apart: labctl infer refuses them; " if found.told_apart else ""
    return {"weights, BUT": f"{warning}{found.statement()}"}


def _together(found: Cumulative, prior: str) -> str:
    """Return what all queries leak together, under each assumption; `prior` of the weights."""
    values = found.as_json()
    lines = [f"after {found.queries}, in bit per real weight ({prior}):"]
    for name in ("collective_upper", "collective", "memory_unchecked", "additive"):
        headline = " (headline)" if name == found.headline else ""
        lines.append(f"{values[name]:.4g} {name}{headline}: {IN_WORDS[name]}")
    return "\n".join(lines)
