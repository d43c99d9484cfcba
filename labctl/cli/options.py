"""Options that several commands share, each declared once: one name, one type, one meaning.

A command uses the alias (`gain: options.Gain = 1.3`) and states its own default. `OptionalGain` is
the same option where leaving it out means something; the command's help then says what.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

DEFAULT_RUNS = Path("labctl-runs")
DEFAULT_CALIBRATIONS = Path("labctl-calibration")
DEFAULT_LEDGER = Path("labctl-ledger")

LIGHT, TRUST, CLIENT = "Light and link", "Assumptions", "Client"
SUBJECT, STATISTICS, RESULTS = "Network and images", "Statistics", "Results"
LIMITS, LEDGER = "Limits", "Ledger"


def shared(name: str, panel: str, text: str) -> Any:
    """Return an option of several commands: its name, section of the help, and meaning."""
    return typer.Option(name, help=text, rich_help_panel=panel)


# Light and link
_MU = shared("--mu", LIGHT, "Mean photon number per mode (μ), 1e-12 to 1e9.")
_GAIN = shared("--gain", LIGHT, "Gain G of the client's amplifier, above 1.")
_LOSS_DB = shared("--loss-db", LIGHT, "Loss of the link's round trip in dB, 0 or more.")
_TECHNICAL_NOISE = shared(
    "--technical-noise", LIGHT, "Technical noise of the link in SNU (vacuum: 1), 0 or more."
)
_EFFICIENCY = shared("--efficiency", LIGHT, "Efficiency of both homodyne receivers, 1e-6 to 1.")
_ELECTRONIC_NOISE = shared(
    "--electronic-noise", LIGHT, "Electronic noise of both homodyne receivers in SNU, 0 or more."
)
_NOISE_FIGURE_DB = shared(
    "--noise-figure-db",
    LIGHT,
    "Noise figure of the client's amplifier in dB (default: the quantum limit at its gain).",
)
_EMISSION_FACTOR = shared(
    "--emission-factor",
    LIGHT,
    "Spontaneous-emission factor n_sp of the client's amplifier, 1 (quantum limit) or more.",
)
_BLOCK_MODES = shared(
    "--block-modes",
    LIGHT,
    "Modes that the client's rotation collects at a time, 1 or more (default: all modes of a row).",
)
_ROTATION_LOSS = shared(
    "--rotation-loss-db-per-mode",
    LIGHT,
    "Loss of each element of the client's rotation in dB, each way; always untrusted.",
)
_COUPLER_ERROR = shared(
    "--coupler-error-rad",
    LIGHT,
    "Standard deviation of the errors of the rotation's couplers in rad, 0 or more.",
)
_PHASE_ERROR = shared(
    "--phase-error-rad",
    LIGHT,
    "Standard deviation of the errors of the rotation's phases in rad, 0 or more.",
)
_LINEWIDTH = shared(
    "--linewidth-hz",
    LIGHT,
    "Lorentzian linewidth of the client's own laser in Hz, 0 or more (default: 100).",
)
_SIGNAL_LINEWIDTH = shared(
    "--signal-linewidth-hz",
    LIGHT,
    "Lorentzian linewidth of the server's laser in Hz, with --local-oscillator own (default: 100).",
)
_CLONE_GAIN_ERROR = shared(
    "--clone-gain-error",
    LIGHT,
    "Relative error δ of the net amplitude gain of the client's clone (gain less 1); 0.001 is "
    "0.0087 dB.",
)
_CLONE_PHASE = shared("--clone-phase-rad", LIGHT, "Phase error of the client's clone in rad.")
_MODES = shared("--modes", LIGHT, "Modes n that carry one row of weights, 1 or more.")
_ROWS = shared("--rows", LIGHT, "Rows M that carry the same input, 1 or more.")

Mu = Annotated[float, _MU]
OptionalMu = Annotated[float | None, _MU]
Gain = Annotated[float, _GAIN]
LossDb = Annotated[float, _LOSS_DB]
OptionalLossDb = Annotated[float | None, _LOSS_DB]
TechnicalNoise = Annotated[float, _TECHNICAL_NOISE]
OptionalTechnicalNoise = Annotated[float | None, _TECHNICAL_NOISE]
Efficiency = Annotated[float, _EFFICIENCY]
OptionalEfficiency = Annotated[float | None, _EFFICIENCY]
ElectronicNoise = Annotated[float, _ELECTRONIC_NOISE]
OptionalElectronicNoise = Annotated[float | None, _ELECTRONIC_NOISE]
OptionalNoiseFigureDb = Annotated[float | None, _NOISE_FIGURE_DB]
EmissionFactor = Annotated[float, _EMISSION_FACTOR]
OptionalBlockModes = Annotated[int | None, _BLOCK_MODES]
RotationLoss = Annotated[float, _ROTATION_LOSS]
OptionalRotationLoss = Annotated[float | None, _ROTATION_LOSS]
CouplerError = Annotated[float, _COUPLER_ERROR]
OptionalCouplerError = Annotated[float | None, _COUPLER_ERROR]
PhaseError = Annotated[float, _PHASE_ERROR]
OptionalPhaseError = Annotated[float | None, _PHASE_ERROR]
OptionalLinewidth = Annotated[float | None, _LINEWIDTH]
OptionalSignalLinewidth = Annotated[float | None, _SIGNAL_LINEWIDTH]
CloneGainError = Annotated[float, _CLONE_GAIN_ERROR]
OptionalCloneGainError = Annotated[float | None, _CLONE_GAIN_ERROR]
ClonePhase = Annotated[float, _CLONE_PHASE]
OptionalClonePhase = Annotated[float | None, _CLONE_PHASE]
Modes = Annotated[int, _MODES]
OptionalModes = Annotated[int | None, _MODES]
Rows = Annotated[int, _ROWS]
OptionalRows = Annotated[int | None, _ROWS]

# Assumptions
AcceptDiscreteWeights = Annotated[
    bool,
    shared(
        "--accept-discrete-weights",
        TRUST,
        "Continue although the weights take few values, or one value often, that a heterodyning "
        "client can distinguish at this light. The result then says that no figure for Gaussian "
        "weights holds.",
    ),
]

# Client
_DECOYS = shared(
    "--decoys",
    CLIENT,
    "Inputs of other classes that the client clones besides its own, 0 to the number of other "
    "classes (9 for digits): any reader of the returned light names 1 label in DECOYS + 1.",
)
Decoys = Annotated[int, _DECOYS]
OptionalDecoys = Annotated[int | None, _DECOYS]
RealShare = Annotated[
    float,
    shared(
        "--real-share",
        CLIENT,
        "Share of the queries after a probation that are real, drawn in secret, above 0, at most "
        "1; the others carry worthless weights.",
    ),
]

# Network and images
_MODEL = shared(
    "--model", SUBJECT, "Network: a shipped name (as noise-aware), or a .safetensors or .npz file."
)
Model = Annotated[str, _MODEL]
OptionalModel = Annotated[str | None, _MODEL]
_MODELS = shared(
    "--models", SUBJECT, "Networks with commas between: shipped names or files, as with --model."
)
Models = Annotated[str, _MODELS]
OptionalData = Annotated[
    Path | None,
    shared("--data", SUBJECT, "Images: a folder of idx files, or a task's name (default: MNIST)."),
]
_IMAGES = shared("--images", SUBJECT, "Number of test images, from the first on, 1 or more.")
Images = Annotated[int, _IMAGES]
OptionalImages = Annotated[int | None, _IMAGES]
ImagesPerSession = Annotated[
    int, shared("--images-per-session", SUBJECT, "Images that each session classifies, 1 or more.")
]
QueryCounts = Annotated[
    str,
    shared(
        "--query-counts", SUBJECT, "Numbers of queries of the same weights, with commas between."
    ),
]

# Statistics
_SEED = shared(
    "--seed",
    STATISTICS,
    "Seed of all random numbers, 0 or more: the same seed gives the same result.",
)
Seed = Annotated[int, _SEED]
OptionalSeed = Annotated[int | None, _SEED]
FirstSeed = Annotated[
    int,
    typer.Option(
        "--first-seed",
        min=0,
        help="Seed of the first one drawn, 0 or more; the others take the next whole numbers.",
        rich_help_panel=STATISTICS,
    ),
]
Sessions = Annotated[
    int, shared("--sessions", STATISTICS, "Number of sessions per point, 1 or more.")
]
NoiseRuns = Annotated[
    int,
    shared(
        "--noise-runs", STATISTICS, "Runs for each F, each with its own seed of noise, 1 to 1000."
    ),
]
_CALIBRATION_SAMPLES = shared(
    "--calibration-samples",
    STATISTICS,
    "Samples of the calibration of the shot-noise unit before the session, 2 or more.",
)
CalibrationSamples = Annotated[int, _CALIBRATION_SAMPLES]
OptionalCalibrationSamples = Annotated[int | None, _CALIBRATION_SAMPLES]
MonitorSamples = Annotated[
    int,
    shared(
        "--monitor-samples",
        STATISTICS,
        "Samples of the blocked receiver after each batch; 0: the oscillator is not monitored.",
    ),
]
FalseAlarmProbability = Annotated[
    float,
    shared(
        "--false-alarm-probability",
        STATISTICS,
        "Probability that the verdict rejects an honest session, 1e-100 to below 1.",
    ),
]
FalseAlarmProbabilities = Annotated[
    str,
    shared(
        "--false-alarm-probabilities",
        STATISTICS,
        "Probabilities that the verdict rejects an honest session, with commas between, each "
        "1e-100 to below 1.",
    ),
]
FailureProbability = Annotated[
    float,
    shared(
        "--failure-probability",
        STATISTICS,
        "Probability that a stated bound does not hold, 1e-100 to below 1.",
    ),
]
Effort = Annotated[
    float,
    shared(
        "--effort", STATISTICS, "Number of readings, relative to a full calibration (1), above 0."
    ),
]
OptionalProcesses = Annotated[
    int | None,
    shared("--processes", STATISTICS, "Number of processes on this machine, 1 to 256."),
]

# Limits
OptionalDataBits = Annotated[
    float | None,
    shared(
        "--data-bits",
        LIMITS,
        "Maximum leakage of the data in bits per symbol and query (journal version).",
    ),
]
OptionalCopyAccuracy = Annotated[
    float | None,
    shared(
        "--copy-accuracy",
        LIMITS,
        "Maximum accuracy of the best known copy that a thief could build, between 0 and 1.",
    ),
]

OptionalWeightsBitsLimit = Annotated[
    float | None,
    shared(
        "--weights-bits-limit",
        LIMITS,
        "Maximum of the bound in bits per real weight; the verdict rejects above it.",
    ),
]

# Ledger
_LEDGER = shared("--ledger", LEDGER, "Folder of the ledger.")
Ledger = Annotated[Path, _LEDGER]
OptionalLedger = Annotated[Path | None, _LEDGER]
OptionalClient = Annotated[
    str | None, shared("--client", LEDGER, "Client, by its name at the server.")
]
OptionalClientKey = Annotated[
    Path | None,
    shared(
        "--client-key", LEDGER, "File of the private key that the client's name is bound to (PEM)."
    ),
]
LedgerKeys = Annotated[
    Path | None, typer.Option("--keys", help="Folder of its keys and heads (default: FOLDER-keys).")
]
OptionalOperatorKeys = Annotated[
    Path | None,
    shared("--operator-keys", LEDGER, "Folder of the key of the server's operator."),
]

# Two parties
Identity = Annotated[
    Path,
    typer.Option("--identity", help="Folder of the party's key and certificate (labctl keys)."),
]

# Files
Runs = Annotated[Path, shared("--runs", RESULTS, "Folder for run files.")]
Calibrations = Annotated[Path, shared("--calibrations", RESULTS, "Folder of calibration records.")]
OptionalStation = Annotated[Path | None, shared("--station", RESULTS, "Station file (TOML).")]
OptionalFigure = Annotated[
    Path | None, shared("--figure", RESULTS, "Write a figure to this PNG file.")
]
OptionalReport = Annotated[Path | None, shared("--report", RESULTS, "Write a report to this file.")]
_OUT = shared("--out", RESULTS, "File or folder to write the result to.")
Out = Annotated[Path, _OUT]
OptionalOut = Annotated[Path | None, _OUT]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show what would be done; change nothing.")
]
Json = Annotated[bool, shared("--json", RESULTS, "Print JSON instead of text.")]
