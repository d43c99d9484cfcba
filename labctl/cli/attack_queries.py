"""`labctl attack queries`: what an attack has learned, and whether it was caught, over queries."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.cli import attack_options as ask
from labctl.cli import options, output
from labctl.cli.attack_queries_figure import QueriesRow, draw_queries
from labctl.cli.choices import images_of
from labctl.data.mnist import load_test_images
from labctl.data.models import Network, load_network
from labctl.errors import SettingError
from labctl.protocols.settings import SessionSettings
from labctl.safety import interruptible
from labctl.studies.attacks.attack import Attacker
from labctl.studies.attacks.catalogue import ATTACKS, attack_of
from labctl.studies.attacks.printed import printed_figures
from labctl.studies.attacks.queries import curve_over_queries
from labctl.wording import counted

ASSUMES = (
    "each count of queries is a separate session; its copy of the network is judged without "
    "noise on the 10,000 MNIST test images",
    "bits, independent: -log2(1 - rho^2)/2 per weight, right for weights that are independent; of "
    "others the same number is counted often",
    "bits, network: mutual information under the prior of this network's bound: Gaussian rows, "
    "independent, of one covariance, each of its own brightness",
    "printed figures: Gaussian weights of the worst prior of this mean power, loss and noise "
    "untrusted. Additive: of one query at honest noise times the queries; it bounds a quantum "
    "memory, too. Memory: of one query with the light and the noise of all. Collective: the same "
    "at the bound of the noise that the residuals summed by weight show in this session",
)


def queries(
    name: ask.Name,
    strength: ask.Strength = None,
    queries: options.QueryCounts = "1,3,10,30,100",
    model: options.Model = "noise-aware",
    mu: options.Mu = 0.57,
    gain: options.Gain = 1.3,
    loss_db: options.LossDb = 0.0,
    technical_noise: options.TechnicalNoise = 0.0,
    calibration_samples: options.CalibrationSamples = ask.VERIFICATION.calibration_samples,
    monitor_samples: options.MonitorSamples = ask.VERIFICATION.monitor_samples,
    false_alarm: options.FalseAlarmProbability = 1e-3,
    seed: options.Seed = 0,
    figure: options.OptionalFigure = None,
    json: options.Json = False,
) -> None:
    """Run an attack for several numbers of queries: verdict, bits learned, the copy's accuracy."""
    settings = ask.settings_of(
        mu=mu,
        gain=gain,
        loss_db=loss_db,
        technical_noise=technical_noise,
        calibration_samples=calibration_samples,
        monitor_samples=monitor_samples,
        seed=seed,
        false_alarm_probability=false_alarm,
    )
    counts = sorted(set(ask.whole_numbers("--query-counts", queries)))
    attack, network = attack_of(name, strength), load_network(model)
    if attack.party is Attacker.SERVER:
        raise SettingError("attack", name, "one of a client or an outsider: they steal weights")
    output.require_png(figure)
    test = load_test_images()
    if network.sizes[0] != test.images.shape[1]:
        raise SettingError("model inputs", network.sizes[0], f"{test.images.shape[1]}, as MNIST")
    given = images_of(None, counts[-1])
    with interruptible() as check, output.progress(name, sum(counts), "queries") as advance:

        def step(count: int) -> None:
            advance(count)
            check()

        points = curve_over_queries(
            attack, network, settings, given, counts, test=test, on_queries=step
        )
    rows = [
        QueriesRow(
            point,
            printed_figures(network, settings, point.queries, point.outcome.verification),
        )
        for point in points
    ]
    kind = ATTACKS[name]
    strength_words = f"{kind.parameter} {attack.strength:g} {kind.unit}".rstrip()
    title = f"{name} ({strength_words}) on {network.name}, {ask.setting_words(settings)}"
    if figure is not None:
        draw_queries(figure, title, rows)
    if json:
        output.print_json(
            {
                "attack": name,
                "party": str(attack.party),
                "strength": attack.strength,
                "model": network.name,
                **ask.settings_json(settings),
                "false_alarm_probability": false_alarm,
                "rows": [row.as_json() for row in rows],
                "assumptions": list(ASSUMES),
            }
        )
        return
    _show(title, rows, network, settings)


def _show(
    title: str, rows: Sequence[QueriesRow], network: Network, settings: SessionSettings
) -> None:
    output.table(
        title,
        [
            "queries",
            "caught",
            "ε (honest), SNU",
            "ρ",
            "bits, indep.",
            "bits, network",
            "copy",
            "printed, added",
            "memory",
            "collective",
        ],
        [_cells(row) for row in rows],
        numeric=True,
    )
    for row in rows:
        verdict = row.point.outcome.verification
        said = "REJECTED" if row.point.outcome.caught else "accepted"
        sent = counted(row.point.queries, "query", "queries")
        output.people.print(f"{sent}, {said}: {verdict.reason}")
    for remark in dict.fromkeys(row.point.outcome.learned.remark for row in rows):
        if remark is not None:
            output.people.print(f"nothing of levels or words: {remark}")
    for sentence in (*ASSUMES, *settings.assumptions.sentences()):
        output.people.print(sentence, style="dim")


def _cells(row: QueriesRow) -> list[str]:
    learned, verdict = row.point.outcome.learned, row.point.outcome.verification
    noise, honest = verdict.excess_noise, verdict.excess_noise_expected
    copy = learned.copy_accuracy
    return [
        str(row.point.queries),
        "yes" if row.point.outcome.caught else "no",
        f"{output.number(noise, 3)} ({output.number(honest, 3)})",
        output.number(learned.weights_correlation, 3),
        output.number(learned.weights_bits_per_real, 3),
        output.number(learned.weights_bits_network, 3),
        "–" if copy is None else f"{copy:.1%}",
        output.number(row.printed.additive, 3),
        output.number(row.printed.memory_unchecked, 3),
        output.number(row.printed.collective_upper, 3),
    ]
