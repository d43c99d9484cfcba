"""The curves of `labctl label-attack --write-curve`: labels read against evidence, in a file."""

from __future__ import annotations

from pathlib import Path

from labctl.cli import output
from labctl.data.mnist import LabelledImages
from labctl.protocols.labels.curve import CurveFile
from labctl.safety import interruptible
from labctl.studies.attacks.label_curve import EVIDENCE, measure_curves
from labctl.wording import counted


def measure_curve(
    attacked: LabelledImages,
    public: LabelledImages,
    training: bool,
    dimensions: int,
    seed: int,
    file: str,
) -> CurveFile:
    """Measure all curves; the file says by which command it is made again."""
    part = "training" if training else "further test"
    described = (
        f"{len(public.labels)} MNIST {part} images",
        f"first {len(attacked.labels)} MNIST test images",
    )
    options = f"--images {len(attacked.labels)} --dimensions {dimensions} --seed {seed}"
    source = " --fetch" if training else ""
    total = sum(len(values) for values in EVIDENCE.values())
    with interruptible() as check, output.progress("measuring", total, "points") as step:

        def on_point_done(_point: object) -> None:
            step(1)
            check()

        return measure_curves(
            attacked,
            public,
            seed=seed,
            command=f"labctl label-attack --write-curve {file}{source} {options}",
            described=described,
            dimensions=dimensions,
            on_point=on_point_done,
        )


def write_curve(path: Path, found: CurveFile, *, json: bool) -> None:
    """Write the curves and say where."""
    path.write_text(found.toml(), encoding="utf-8")
    if json:
        output.print_json({"file": str(path), "points": len(found.point)})
    else:
        output.people.print(f"{counted(len(found.point), 'point', 'points')} in {path}")
