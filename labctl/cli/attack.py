"""`labctl attack`: attack a session, see what was learned and whether the server caught it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from labctl import checks
from labctl.cli import attack_options as ask
from labctl.cli import link_options, options, output
from labctl.cli.attack_curve import agreement, curve
from labctl.cli.attack_queries import queries
from labctl.cli.choices import images_of
from labctl.cli.infer import weights_line
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network, load_network
from labctl.errors import LabctlError, SettingError
from labctl.protocols.carried import require_blocks_of
from labctl.protocols.leakage import Leakage, Trust, spectrum_of
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import ReceiverKind
from labctl.protocols.session import Session
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.verdict import VerificationReport
from labctl.run.report import finite, leakage_json, verification_json
from labctl.safety import interruptible
from labctl.shares import share_in_words
from labctl.studies.attacks.attack import Attack, Attacker, AttackOutcome, Learned, Mark
from labctl.studies.attacks.catalogue import ATTACKS, attack_of
from labctl.studies.attacks.detection import DetectionTheory, honesty_of
from labctl.studies.attacks.quantum_memory import QuantumMemory
from labctl.wording import counted

app = typer.Typer(help="Attack a session: what is learned, and is it caught?", no_args_is_help=True)
app.command("curve")(curve)
app.command("agreement")(agreement)
app.command("queries")(queries)

# The shipped test images.
_MOST_IMAGES = 10_000
_BATCH_IMAGES = 16
_POWER = 0.99
_ALARMS = (1e-3, 1e-6)
_READS_LABELS = ("label-reading", "squeezed-probes")
_ATTACKER = {
    Attacker.CLIENT: "client: linear optics, homodyne and heterodyne",
    Attacker.OUTSIDER: "outsider: linear optics, heterodyne; neither weights nor inputs known",
    Attacker.SERVER: "server: its own receiver, and public images of known label; the verdict is "
    "its own and says nothing about itself",
}


@app.command("list")
def list_attacks(json: options.Json = False) -> None:
    """List all attacks: who attacks, what it does, and its range of strength."""
    if json:
        output.print_json(
            {
                "attacks": [
                    {
                        "name": kind.name,
                        "party": str(kind.party),
                        "summary": kind.summary,
                        "parameter": kind.parameter,
                        "unit": kind.unit,
                        "valid": kind.valid,
                        "default": kind.default,
                    }
                    for kind in ATTACKS.values()
                ]
            }
        )
        return
    output.table(
        "Attacks",
        ["name", "who", "what it does", "strength", "default"],
        [
            [
                kind.name,
                str(kind.party),
                kind.summary,
                f"{kind.parameter} {kind.unit}".strip() + f": {kind.valid}",
                f"{kind.default:g}",
            ]
            for kind in ATTACKS.values()
        ],
    )


@dataclass(frozen=True)
class _Found:
    """One attacked session, with what the closed forms say of it."""

    attack: Attack
    network: Network
    settings: SessionSettings
    images: int
    outcome: AttackOutcome
    mark: Mark | None
    theory: DetectionTheory | None
    leakage: Leakage

    def chance(self) -> dict[str, Any] | None:
        """Return how surely the pooled checks catch such a session."""
        if self.theory is None or self.mark is None:
            return None
        alarm = self.settings.verification.false_alarm_probability
        power = self.theory.power(self.mark, self.outcome.verification.samples, alarm)
        return {"noise": power.noise, "gain": power.gain, "either": power.either}

    def shown(self) -> dict[str, Any]:
        """Return the mark as the verdict's estimate shows it, with standard errors."""
        verdict, honest = self.outcome.verification, honesty_of(self.network, self.settings)
        noise, expected = verdict.excess_noise, verdict.excess_noise_expected
        light = verdict.transmittance
        if noise is None or expected is None or light is None:
            return {}
        variance = max(honest.light.shot_noise + noise, 0.0)
        error = math.sqrt(variance / (2.0 * honest.light.mean_photons * verdict.samples))
        calibration = light * math.sqrt(2.0 / verdict.calibration_samples)
        return {
            "excess_noise": noise - expected,
            "excess_noise_error": verdict.excess_noise_standard_error,
            "transmittance_ratio": light / honest.light.transmittance,
            "transmittance_ratio_error": math.hypot(2.0 * math.sqrt(light) * error, calibration)
            / honest.light.transmittance,
        }


@app.command()
def run(
    name: ask.Name,
    strength: ask.Strength = None,
    images: options.Images = 1,
    model: options.Model = "noise-aware",
    mu: options.Mu = 0.57,
    gain: options.Gain = 1.3,
    loss_db: options.LossDb = 0.0,
    technical_noise: options.TechnicalNoise = 0.0,
    loss: link_options.LossTrust = Trust.UNTRUSTED,
    noise: link_options.NoiseTrust = Trust.UNTRUSTED,
    efficiency: options.Efficiency = 1.0,
    electronic_noise: options.ElectronicNoise = 0.0,
    noise_figure_db: options.OptionalNoiseFigureDb = None,
    receiver: link_options.Receiver = ReceiverKind.AMPLIFIER,
    block_modes: options.OptionalBlockModes = None,
    rotation_loss_db_per_mode: options.RotationLoss = 0.0,
    calibration_samples: options.CalibrationSamples = ask.VERIFICATION.calibration_samples,
    monitor_samples: options.MonitorSamples = ask.VERIFICATION.monitor_samples,
    false_alarm: options.FalseAlarmProbability = ask.VERIFICATION.false_alarm_probability,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Run one attacked session: what was learned, the mark it left, and the verdict."""
    settings = ask.settings_of(
        mu=mu,
        gain=gain,
        loss_db=loss_db,
        technical_noise=technical_noise,
        loss=loss,
        noise=noise,
        efficiency=efficiency,
        electronic_noise=electronic_noise,
        noise_figure_db=noise_figure_db,
        receiver=receiver,
        block_modes=block_modes,
        rotation_loss_db_per_mode=rotation_loss_db_per_mode,
        calibration_samples=calibration_samples,
        monitor_samples=monitor_samples,
        seed=seed,
        false_alarm_probability=false_alarm,
    )
    attack, network = attack_of(name, strength), load_network(model)
    require_blocks_of(network, block_modes)
    found = _attacked(attack, network, settings, images)
    if json:
        output.print_json(_values(found))
    else:
        _show(found)


def _attacked(attack: Attack, network: Network, settings: SessionSettings, images: int) -> _Found:
    """Run the session with progress; images are the shipped test images."""
    given = _images_for(attack, network, images)
    theory = None
    if attack.party is not Attacker.SERVER and attack.mark(network, settings) is not None:
        theory = DetectionTheory(attack, network, settings)
    mounted = attack.mount(network, settings)
    fed = mounted.inputs(given.images)
    session = Session(network, settings, mounted.link, server=mounted.server)
    with interruptible() as check, output.progress(attack.name, len(fed), "queries") as advance:
        for batch in session.run(fed, batch_images=_BATCH_IMAGES):
            advance(len(batch.classes))
            check()
    spectrum = spectrum_of(network)
    outcome = AttackOutcome(mounted.learned(network, given), session.verdict(spectrum=spectrum))
    mark = attack.mark(network, settings) if theory is None else theory.mark(len(fed))
    honest = Session(network, settings, ModeLink(settings)).leakage(spectrum)
    return _Found(attack, network, settings, images, outcome, mark, theory, honest)


def _images_for(attack: Attack, network: Network, count: int) -> LabelledImages:
    """Return the first test images; readers of labels know the second half of them already."""
    pixels = network.sizes[0]
    available = images_of(None, 1)
    if available.images.shape[1] != pixels:
        raise SettingError("model inputs", pixels, f"{available.images.shape[1]}, as MNIST has")
    return images_of(None, count) if attack.name not in _READS_LABELS else _unknown(count)


def _unknown(count: int) -> LabelledImages:
    from labctl.data.mnist import load_test_images

    most = len(load_test_images().labels) // 2
    checks.within("images", count, 1, most, note=": the server knows the others")
    return images_of(None, count)


def learned_json(learned: Learned) -> dict[str, Any]:
    """Return what was learned as plain values, None where an attack was not after it."""
    return finite(
        {
            "samples": learned.samples,
            "weights_correlation": learned.weights_correlation,
            "weights_bits_per_real": learned.weights_bits_per_real,
            "data_correlation": learned.data_correlation,
            "data_bits_per_symbol": learned.data_bits_per_symbol,
            "label_success": learned.label_success,
            "label_success_error": learned.label_success_error,
            "weights_bits_network": learned.weights_bits_network,
            "copy_accuracy": learned.copy_accuracy,
            "weights_wrong": learned.weights_wrong,
            "weights_bits_discrete": learned.weights_bits_discrete,
            "weights_bits_holevo": learned.weights_bits_holevo,
            "remark": learned.remark,
        }
    )


def _mark_json(mark: Mark | None) -> dict[str, float] | None:
    if mark is None:
        return None
    return {
        "excess_noise": mark.excess_noise,
        "transmittance_ratio": mark.transmittance_ratio,
    }


def _assumptions(attack: Attack, settings: SessionSettings) -> list[str]:
    ideal = "; an ideal quantum memory for all modes of a session"
    memory = ideal if isinstance(attack, QuantumMemory) else "; no quantum memory"
    return [
        _ATTACKER[attack.party] + (memory if attack.party is Attacker.CLIENT else ""),
        "bits per weight that count weights as independent count the same number often where they "
        "are not; those under the network's own Gaussian prior count each once, and are those to "
        "set beside a bound",
        *settings.assumptions.sentences(),
    ]


def _values(found: _Found) -> dict[str, Any]:
    outcome = found.outcome
    return {
        "attack": found.attack.name,
        "party": str(found.attack.party),
        "strength": found.attack.strength,
        "images": found.images,
        "model": found.network.name,
        **ask.settings_json(found.settings),
        "learned": learned_json(outcome.learned),
        "leakage": leakage_json(found.leakage, queries=found.images),
        "mark": _mark_json(found.mark),
        "mark_found": finite(found.shown()),
        "detection_theory": found.chance(),
        "caught": outcome.caught,
        "failed": [check.name for check in outcome.verification.failed],
        "verification": verification_json(outcome.verification),
        "assumptions": _assumptions(found.attack, found.settings),
    }


def _show(found: _Found) -> None:
    outcome, kind = found.outcome, ATTACKS[found.attack.name]
    verdict, shown, chance = outcome.verification, found.shown(), found.chance()
    facts = {
        "setting": ask.setting_words(found.settings),
        "learned": _learned_words(outcome.learned),
        "honest client": weights_line(leakage_json(found.leakage, queries=found.images)),
        **_bounds_words(verdict),
    }
    if found.mark is not None:
        facts["mark, closed form"] = (
            f"excess noise {found.mark.excess_noise:+.5f} SNU, transmittance times "
            f"{found.mark.transmittance_ratio:.5f}"
        )
    if shown:
        facts["mark, as estimated"] = (
            f"excess noise {shown['excess_noise']:+.5f} ± {shown['excess_noise_error']:.2g} SNU, "
            f"transmittance times {shown['transmittance_ratio']:.5f} ± "
            f"{shown['transmittance_ratio_error']:.2g}"
        )
    if chance is not None:
        facts["caught, in theory"] = (
            f"{chance['either']:.3g} by pooled noise ({chance['noise']:.3g}) or gain "
            f"({chance['gain']:.3g}) of {verdict.samples} modes, false alarms at "
            f"{verdict.false_alarm_probability:g}"
        )
    facts["verdict"] = ("REJECTED: " if outcome.caught else "accepted: ") + verdict.reason
    facts["assumes"] = "\n".join(_assumptions(found.attack, found.settings))
    output.facts(
        f"{found.attack.name} ({found.attack.party}, {kind.parameter} {found.attack.strength:g}) "
        f"over {counted(found.images, 'image', 'images')} of {found.network.name}",
        facts,
    )


def _bounds_words(verdict: VerificationReport) -> dict[str, str]:
    """Say what the returned light bounds, by the same three figures."""
    bits = verdict.weights_bits_prior_free_upper
    if bits is None:
        return {}
    return {
        "bound, as seen": f"{output.number(bits)} bit per real weight and query (prior-free), "
        f"{output.number(verdict.weights_bits_network_upper)} for this network, "
        f"{output.number(verdict.weights_bits_honest_upper)} by the honest prior"
    }


def _holevo_words(learned: Learned) -> str:
    most = learned.weights_bits_holevo
    if most is None:
        return ""
    return f"; no reading of one query's stolen light tells more than {output.number(most, 3)} bit"


def _network_words(learned: Learned) -> str:
    bits = learned.weights_bits_network
    if bits is None:
        return "; not worked out under the network's own Gaussian prior"
    return f", {output.number(bits, 3)} under the network's own Gaussian prior"


def _decided_words(learned: Learned, wrong: float) -> str:
    if learned.remark is not None:
        return f"nothing of levels or words: {learned.remark}"
    return (
        f"share {wrong:.3g} of all {learned.samples} weights mistaken, "
        f"{output.number(learned.weights_bits_discrete, 3)} bit each"
    )


def _learned_words(learned: Learned) -> str:
    if learned.weights_wrong is not None:
        return _decided_words(learned, learned.weights_wrong)
    if learned.weights_correlation is not None:
        return (
            f"correlation {learned.weights_correlation:.4f} with all {learned.samples} weights "
            f"({output.number(learned.weights_bits_per_real, 3)} bit each if independent"
            + _network_words(learned)
            + ")"
            + _holevo_words(learned)
        )
    if learned.data_correlation is not None:
        return (
            f"correlation {learned.data_correlation:.4f} with the data "
            f"({output.number(learned.data_bits_per_symbol, 3)} bit per symbol if independent)"
        )
    if learned.copy_accuracy is not None:
        return f"a copy that classifies {learned.copy_accuracy:.1%} of test images correctly"
    if learned.label_success is not None:
        return (
            f"{share_in_words(learned.label_success, learned.samples)}, interval of 95 %, of "
            f"{learned.samples} labels"
        )
    return "nothing"


@app.command()
def compare(
    images: options.ImagesPerSession = 1,
    labels: Annotated[
        int, typer.Option(help="Images in each session of a dishonest server, 1 or more.")
    ] = 100,
    model: options.Model = "noise-aware",
    mu: options.Mu = 0.57,
    gain: options.Gain = 1.3,
    loss_db: options.LossDb = 0.0,
    technical_noise: options.TechnicalNoise = 0.0,
    calibration_samples: options.CalibrationSamples = ask.VERIFICATION.calibration_samples,
    monitor_samples: options.MonitorSamples = ask.VERIFICATION.monitor_samples,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Run every attack at its default strength and show the outcomes side by side.

    --images-per-session is for attacks of a client or an outsider.
    """
    settings = ask.settings_of(
        mu=mu,
        gain=gain,
        loss_db=loss_db,
        technical_noise=technical_noise,
        calibration_samples=calibration_samples,
        monitor_samples=monitor_samples,
        seed=seed,
    )
    for name, count in (("--images-per-session", images), ("--labels", labels)):
        checks.within(name, count, 1, _MOST_IMAGES)
    network = load_network(model)
    rows: list[dict[str, Any]] = []
    for kind in ATTACKS.values():
        count = labels if kind.party is Attacker.SERVER else images
        try:
            found = _attacked(attack_of(kind.name), network, settings, count)
        except SettingError as error:
            rows.append({"attack": kind.name, "party": str(kind.party), "refused": str(error)})
            continue
        rows.append({**_values(found), "modes_to_99_percent": _modes_to_catch(found)})
    if all("refused" in row for row in rows):
        raise LabctlError(f"no attack could be mounted: {rows[0]['refused']}")
    modes = honesty_of(network, settings).modes
    if json:
        output.print_json({"modes_per_image": modes, "attacks": rows})
        return
    output.table(
        f"{network.name}, {ask.setting_words(settings)}; {modes} modes per image, "
        f"{counted(images, 'image', 'images')} per session, {labels} of a dishonest server's",
        ["attack", "strength", "ε, SNU", "T", "learned", "caught", "99 % at 1e-3", "at 1e-6"],
        [_row(row, modes) for row in rows if "refused" not in row],
    )
    honest_leakage = next(row["leakage"] for row in rows if "refused" not in row)
    output.people.print(f"honest client: {weights_line(honest_leakage)}")
    for row in rows:
        if "refused" in row:
            output.people.print(f"{row['attack']}: {row['refused']}", style="dim")
    output.people.print(
        "99 %: images until the pooled checks catch it so surely, in theory, at that probability "
        "of false alarms; – for never",
        style="dim",
    )


def _modes_to_catch(found: _Found) -> dict[str, int | None] | None:
    if found.theory is None:
        return None
    return {f"{alarm:g}": found.theory.modes_to_catch(alarm, _POWER) for alarm in _ALARMS}


def _row(row: dict[str, Any], modes: int) -> list[str]:
    mark, learned = row["mark"], row["learned"]
    needed = row["modes_to_99_percent"] or {}
    images = [needed.get(f"{alarm:g}") for alarm in _ALARMS]
    return [
        row["attack"],
        f"{row['strength']:g}",
        "–" if mark is None else f"{mark['excess_noise']:+.2g}",
        "–" if mark is None else f"{mark['transmittance_ratio']:.4g}",
        _short(learned),
        ", ".join(row["failed"]) or "no",
        *("–" if each is None else output.number(each / modes, 2) for each in images),
    ]


def _short(learned: dict[str, Any]) -> str:
    if learned["weights_wrong"] is not None:
        return f"weights, {learned['weights_wrong']:.3g} wrong"
    if learned["weights_correlation"] is not None:
        bits = output.number(learned["weights_bits_per_real"], 2)
        return f"weights ρ {learned['weights_correlation']:.3f}, {bits} bit"
    if learned["data_correlation"] is not None:
        return f"data ρ {learned['data_correlation']:.3f}"
    if learned["copy_accuracy"] is not None:
        return f"copy at {learned['copy_accuracy']:.1%}"
    if learned["label_success"] is not None:
        return f"{learned['label_success']:.0%} of labels"
    return "nothing"
