"""Follows the recipe of the image without a container engine: what it uses of Dockerfiles, no more.

A stage is a folder of the files that its steps add or change, over the file system of this machine
(overlayfs), whose Python takes the place of the base image. Each step runs in a root of both, in
its own mount namespace. Needs root on Linux, and a folder that is on another file system than /.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

# What a build takes along of this machine: where pip finds packages, and by which certificates.
_BUILD_ENVIRONMENT = re.compile(r"PIP_\w+|\w+_PROXY|\w+_proxy|SSL_CERT_FILE|REQUESTS_CA_BUNDLE")


@dataclass(frozen=True)
class Step:
    """An instruction and its words, as they are written."""

    instruction: str
    words: str


@dataclass(frozen=True)
class Stage:
    """The steps between two `FROM`; `name` is "" where nobody copies from it."""

    name: str
    base: str
    steps: tuple[Step, ...]

    def last(self, instruction: str) -> str:
        """Return the words of the last such step, "" without one."""
        return next((s.words for s in reversed(self.steps) if s.instruction == instruction), "")

    @property
    def environment(self) -> dict[str, str]:
        """What all `ENV` set."""
        words = [w for s in self.steps if s.instruction == "ENV" for w in shlex.split(s.words)]
        return dict(word.split("=", 1) for word in words)


def read_recipe(text: str) -> tuple[Stage, ...]:
    """Return the stages of a Dockerfile; raises ValueError for an instruction not known here."""
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text))
    found: list[tuple[str, str, list[Step]]] = []
    defaults: dict[str, str] = {}
    for line in filter(None, map(str.strip, joined.splitlines())):
        instruction, _, words = line.partition(" ")
        words = words.strip()
        if instruction == "ARG":
            name, _, value = words.partition("=")
            defaults[name] = value
        elif instruction == "FROM":
            base, _, name = words.partition(" AS ")
            for each, value in defaults.items():
                base = base.replace(f"${{{each}}}", value)
            found.append((name, base, []))
        elif instruction in ("WORKDIR", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD"):
            found[-1][2].append(Step(instruction, words))
        else:
            raise ValueError(f"{instruction} is not known here: {line}")
    return tuple(Stage(name, base, tuple(steps)) for name, base, steps in found)


@dataclass
class Built:
    """A stage whose steps were run. files: what it adds to this machine's. folder: where it is."""

    stage: Stage
    folder: Path
    path: str
    workdir: str = "/"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> Path:
        """The upper layer."""
        return self.folder / "files"

    def place(self, inside: str) -> Path:
        """Return where a path of the image is here."""
        return self.files / inside.lstrip("/")

    def run(self, command: str) -> None:
        """Run a command in the stage's root; raises CalledProcessError."""
        root = self.folder / "root"
        layers = f"lowerdir=/,upperdir={self.files},workdir={self.folder / 'work'}"
        script = (
            f"mount -t overlay overlay -o {layers} {root}; mount -t proc proc {root}/proc; "
            f"mount --rbind /dev {root}/dev; exec chroot {root} env -i "
            + " ".join(map(shlex.quote, self._variables()))
            + f" sh -ec {shlex.quote(f'cd {self.workdir}; {command}')}"
        )
        subprocess.run(["unshare", "--mount", "sh", "-ec", script], check=True)

    def _variables(self) -> list[str]:
        kept = {k: v for k, v in os.environ.items() if _BUILD_ENVIRONMENT.fullmatch(k)}
        own = {"PATH": self.path, "HOME": "/root", **kept, **self.environment}
        return [f"{name}={value}" for name, value in own.items()]


def build(recipe: Path, source: Path, *, folder: Path, path: str) -> Built:
    """Run all steps of a recipe over files of `source`; return its last stage.

    folder: where stages go. path: of this machine's programs, in place of the base image's.
    """
    built: dict[str, Built] = {}
    last: Built | None = None
    kept = _kept(recipe.with_name(recipe.name + ".dockerignore"))
    for number, stage in enumerate(read_recipe(recipe.read_text(encoding="utf-8"))):
        last = Built(stage, folder / f"stage{number}", path)
        for each in ("files", "work", "root"):
            (last.folder / each).mkdir(parents=True)
        # Programs of this machine may be in a home of root's, which the image's user may not enter.
        last.run("chmod go+x /root")
        for step in stage.steps:
            _follow(last, step, source, kept, built)
        built[stage.name] = last
    if last is None:
        raise ValueError(f"{recipe}: no FROM")
    return last


def _kept(ignore: Path) -> list[str]:
    """Return what a build sees of its context; raises ValueError for rules not known here."""
    rules = [
        line
        for line in ignore.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    others = [rule for rule in rules if not rule.startswith("!")]
    if others != ["*", "**/__pycache__"]:
        raise ValueError(f"{ignore}: {others} is not known here")
    return [rule[1:] for rule in rules if rule.startswith("!")]


def _follow(
    here: Built, step: Step, source: Path, kept: list[str], built: dict[str, Built]
) -> None:
    match step.instruction:
        case "WORKDIR":
            here.workdir = step.words
            here.place(step.words).mkdir(parents=True, exist_ok=True)
        case "ENV":
            here.environment.update(dict(word.split("=", 1) for word in shlex.split(step.words)))
        case "RUN":
            here.run(step.words)
        case "COPY":
            *source_of, what, to = step.words.split()
            target = here.place(str(Path(here.workdir) / to))
            if source_of:
                origin = built[source_of[0].removeprefix("--from=")].place(what)
                _copy(origin, target)
            elif what == ".":
                for name in kept:
                    _copy(source / name, target / name)
            else:
                _copy(source / what, target / Path(what).name if to.endswith("/") else target)


def _copy(origin: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if origin.is_dir():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(origin, target, dirs_exist_ok=True, ignore=ignored)
    else:
        shutil.copy(origin, target)


def words_of(text: str) -> list[str]:
    """Return the words of an instruction that is written as a list."""
    found: list[str] = json.loads(text)
    return found
