"""How many simple mutants of a file its tests kill.

Usage: python benchmarks/mutants.py [--count 24] [--seed 1] [--list] [FILE TEST...]

Without a file: the files of `TARGETS` below, each with its tests. A mutant is the file with one
thing changed: a comparison turned, `and` for `or`, + for -, a constant moved, a sign turned, a
statement dropped, a condition turned. `--count` of them are drawn with the seed, without
annotations, docstrings and error texts, on which no behaviour depends. Each runs the tests in a
copy of the import tree, never in place, until the first fails. Printed are mutants that live; exit
code is 1 if fewer than 5 of 6 are killed for some file.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {
    "instruments/driver_rules.py": ["tests/instruments/test_driver_rules.py"],
    "protocols/encoding.py": ["tests/protocols/test_encoding.py"],
    "instruments/codecs/ieee488.py": ["tests/instruments/codecs/test_ieee488_blocks.py"],
    "protocols/leakage/prior_free.py": ["tests/protocols/leakage/test_prior_free.py"],
    "protocols/ledger/amounts.py": ["tests/protocols/ledger/test_ledger_amounts.py"],
}
WANTED = 5 / 6
# A mutant that loops is killed by time.
TIMEOUT_S = 120.0
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


@dataclass(frozen=True)
class Mutant:
    """A changed source, and what was changed where."""

    line: int
    change: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Return all mutants of a source."""
    tree = ast.parse(source)
    plain = ast.unparse(tree)
    found = []
    types = _in_annotations(tree)
    for index, node in enumerate(ast.walk(tree)):
        for number in range(0 if id(node) in types else _ways(node)):
            changed = copy.deepcopy(tree)
            twin = list(ast.walk(changed))[index]
            change = _change(twin, number)
            text = ast.unparse(ast.fix_missing_locations(changed))
            if text != plain:
                found.append(Mutant(getattr(node, "lineno", 0), change, text))
    silent = _silent_lines(tree)
    return [each for each in found if each.line not in silent]


def _ways(node: ast.AST) -> int:
    """Return in how many ways a node can be changed."""
    match node:
        case ast.Compare(ops=operators):
            return len(operators)
        case ast.BoolOp() | ast.If() | ast.IfExp() | ast.While():
            return 1
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator):
            return int(type(operator) in OPERATORS)
        case ast.UnaryOp(op=ast.USub() | ast.Not()) | ast.Constant(value=int() | float()):
            return 1
        case ast.FunctionDef():
            return len(_droppable(node))
    return 0


def _change(node: ast.AST, number: int) -> str:
    """Change a node in its `number`-th way; return what was done, in words."""
    before = ast.unparse(node).partition("\n")[0][:60]
    match node:
        case ast.Compare():
            node.ops[number] = COMPARISONS[type(node.ops[number])]()
        case ast.BoolOp():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.If() | ast.IfExp() | ast.While():
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case ast.BinOp() | ast.AugAssign():
            node.op = OPERATORS[type(node.op)]()
        case ast.UnaryOp(op=ast.USub()):
            node.op = ast.UAdd()
        case ast.UnaryOp():
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() | float() as value):
            node.value = value + 1
        case ast.FunctionDef():
            dropped = _droppable(node)[number]
            node.body[node.body.index(dropped)] = ast.Pass()
            return f"dropped: {ast.unparse(dropped).partition(chr(10))[0][:60]}"
    return f"{before} -> {ast.unparse(node).partition(chr(10))[0][:60]}"


def _droppable(function: ast.FunctionDef) -> list[ast.stmt]:
    """Return the statements that can be left out: calls and assignments, not the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return [each for each in body if isinstance(each, ast.Expr | ast.Assign | ast.AugAssign)]


def _in_annotations(tree: ast.Module) -> set[int]:
    """Return the identities of all nodes that only say a type."""
    types: list[ast.expr | None] = []
    for node in ast.walk(tree):
        match node:
            case ast.arg(annotation=said) | ast.AnnAssign(annotation=said):
                types.append(said)
            case ast.FunctionDef(returns=said):
                types.append(said)
    return {id(part) for said in types if said is not None for part in ast.walk(said)}


def _silent_lines(tree: ast.Module) -> set[int]:
    """Return the lines without behaviour: docstrings, annotations alone, error texts."""
    silent: set[int] = set()
    for node in ast.walk(tree):
        docstring = (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        )
        if not isinstance(node, ast.stmt):
            continue
        types_alone = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if docstring or types_alone or isinstance(node, ast.Raise):
            silent.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return silent


def import_tree(folder: Path) -> None:
    """Copy the packages of this repository into `folder`, under the names they are imported by."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    places = dict(project["tool"]["setuptools"]["package-dir"])
    for name, place in sorted(places.items()):
        target = folder / Path(*name.split("."))
        shutil.copytree(
            ROOT / place, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )


def place_in_tree(file: str) -> Path:
    """Return where a file of the repository lies in the import tree."""
    top = Path(file).parts[0]
    return Path(file) if top == "labctl" else Path("labctl") / file


def passes(tree: Path, tests: list[str]) -> bool:
    """Whether the tests pass with the packages of a tree."""
    options = ("-q", "-x", "-p", "no:cacheprovider", "-n", "0", "-o", "addopts=")
    command = [sys.executable, "-m", "pytest", *options, "--import-mode=importlib", *tests]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT / "tests",
            env=os.environ | {"PYTHONPATH": str(tree)},
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def survivors(file: str, tests: list[str], count: int, seed: int) -> Iterator[Mutant | None]:
    """Yield each drawn mutant that lives, None for one that is killed.

    Raises SystemExit if the tests fail without a mutant.
    """
    source = (ROOT / file).read_text(encoding="utf-8")
    every = mutants(source)
    drawn = random.Random(f"{file} {seed}").sample(every, min(count, len(every)))
    paths = [str(ROOT / test) for test in tests]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        import_tree(tree)
        if not passes(tree, paths):
            raise SystemExit(f"{file}: its tests fail as it is: {' '.join(tests)}")
        target = tree / place_in_tree(file)
        for mutant in drawn:
            target.write_text(mutant.source, encoding="utf-8")
            # Compiled code is known by size and second: the last mutant's could be taken for it.
            for compiled in target.parent.glob(f"__pycache__/{target.stem}.*.pyc"):
                compiled.unlink()
            yield mutant if passes(tree, paths) else None


def main() -> int:
    """Print what lives; return 1 if too much does."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="?", help="a Python file, relative to the repository")
    parser.add_argument("tests", nargs="*", help="its tests, relative to the repository")
    parser.add_argument("--count", type=int, default=24, help="mutants for each file")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--list", action="store_true", help="only say which mutants there are")
    options = parser.parse_args()
    targets = {options.file: options.tests} if options.file else TARGETS
    enough = True
    for file, tests in targets.items():
        if options.list:
            for mutant in mutants((ROOT / file).read_text(encoding="utf-8")):
                print(f"{file}:{mutant.line}: {mutant.change}")
            continue
        outcomes = []
        for living in survivors(file, tests, options.count, options.seed):
            outcomes.append(living is None)
            if living is not None:
                print(f"{file}:{living.line}: lives: {living.change}", flush=True)
        print(f"{file}: {sum(outcomes)} of {len(outcomes)} killed", flush=True)
        enough = enough and sum(outcomes) >= WANTED * len(outcomes)
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
