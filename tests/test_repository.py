"""The repository itself: what is shipped, and what must stand in none of its files."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("labctl", "instruments", "dsp", "calibration", "data", "protocols", "parties", "studies")
IGNORED = re.compile(
    r"(^|/)(\.[a-z_]+|__pycache__|[^/]+\.egg-info|build|dist|labctl-runs|labctl-calibration)/"
)


def files() -> list[Path]:
    """Return the repository's files: tracked, or new and not ignored."""
    git = shutil.which("git")
    if git is not None and (ROOT / ".git").exists():
        command = [git, "ls-files", "-z", "-co", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
        if listed.returncode == 0:
            names = listed.stdout.decode().split("\0")
            return [ROOT / name for name in names if name and (ROOT / name).is_file()]
    found = (path for path in ROOT.rglob("*") if path.is_file())
    return [path for path in found if not IGNORED.search(path.relative_to(ROOT).as_posix())]


FILES = files()
SOURCES = [path for path in FILES if path.suffix == ".py" and path.parent != ROOT]
SHIPPED = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in FOLDERS]
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 500, 60
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# In parts, so that this file does not hold what it looks for.
REGISTRIES = tuple(
    first + second
    for first, second in (
        ("py", "pi.org"),
        ("python", "hosted"),
        ("arti", "factory"),
        ("dev", "pi"),
        ("index", "-url"),
        ("anaconda", ".org"),
        ("npm", "js."),
    )
)
MACHINES = r"(?<![\w.:/-])/(?:home|Users|root|work|mnt|tmp|opt/[a-z]+/work)/[\w.]"
FORKS = r"get_context\((?!\"spawn\"\))|multiprocessing\.(?:Process|Pool)\("
MARKS = r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK")) + r")\b"


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's lines without its declaration: decorators, parameters and docstring."""
    body = function.body
    first = body[1] if ast.get_docstring(function) is not None and len(body) > 1 else body[0]
    assert function.end_lineno is not None
    return function.end_lineno - first.lineno + 1


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def folder_of(package: str) -> Path:
    """Return where a package's files are, by the longest entry of package-dir."""
    places: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
    prefix = max(
        (name for name in places if f"{package}.".startswith(f"{name}.")), key=len, default=""
    )
    rest = package.removeprefix(prefix).strip(".").replace(".", "/")
    return ROOT / places[prefix] / rest


def test_there_is_something_to_look_at() -> None:
    assert ROOT / "pyproject.toml" in FILES
    assert len(SHIPPED) > 40


def test_every_package_is_shipped_and_every_shipped_package_is_there() -> None:
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    there = {path.parent for path in SHIPPED if path.name == "__init__.py"}
    assert {folder_of(package) for package in listed} == there


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for path in SHIPPED}
    assert [name_of(path) for path in folders if not (path / "__init__.py").is_file()] == []


def test_every_command_and_driver_that_is_promised_is_there() -> None:
    points = {**PROJECT["project"]["scripts"]}
    points |= PROJECT["project"]["entry-points"]["labctl.drivers"]
    for target in points.values():
        module, name = target.split(":")
        place = folder_of(module)
        source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        defined = ast.parse(source.read_text(encoding="utf-8")).body
        assert name in {getattr(part, "name", None) for part in defined}, target


def test_data_files_that_are_promised_are_there() -> None:
    for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items():
        for pattern in patterns:
            assert list(folder_of(package).glob(pattern)), f"{package}: {pattern}"


# Rules for all files are one test each, which names the files that break it: a test for each file
# and rule was a quarter of all tests.


def test_every_module_starts_with_what_it_is() -> None:
    first = {
        name_of(path): ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        for path in SHIPPED
    }
    assert [
        name for name, said in first.items() if len((said or "").partition("\n")[0]) <= 10
    ] == []


def test_no_source_file_is_longer_than_a_reader_keeps_in_mind() -> None:
    long = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name for name, lines in long.items() if lines > MOST_LINES} == set()


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        f"{name_of(path)}: {function.name}": lines
        for path in SOURCES
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := lines_of_code(function)) > MOST_LINES_OF_A_FUNCTION
    }
    assert long == {}


def test_lines_of_a_function_are_those_that_do_something() -> None:
    source = (
        'def f(\n    a,\n    b,\n):\n    """Say.\n\n    More.\n    """\n    a = b\n    return a\n'
    )
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert lines_of_code(function) == 2


def test_tests_that_share_a_folder_need_no_package() -> None:
    tests = [path for path in SOURCES if "tests" in path.parts]
    assert [name_of(path) for path in tests if path.name == "__init__.py"] == []


def test_no_file_names_a_registry_or_a_machine_or_unfinished_work() -> None:
    found = {}
    for path in FILES:
        content = path.read_bytes()
        if b"\0" in content:
            continue
        text = content.decode("utf-8")
        words = [word for word in REGISTRIES if word in text]
        words += re.findall(MACHINES + r".*", text) + re.findall(MARKS, text)
        if words:
            found[name_of(path)] = words
    assert found == {}


def test_processes_are_spawned_and_never_forked() -> None:
    """A fork of a process with threads may hang, and JAX, once imported by anybody, warns of it."""
    found = {}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        words = re.findall(FORKS, text)
        # A test may start a script that forks, to see what becomes of its station.
        if path in SHIPPED and "os.fork(" in text:
            words.append("os.fork(")
        if '"spawn"' not in text:
            words += re.findall(r"\bProcessPoolExecutor\(", text)
        if words:
            found[name_of(path)] = words
    assert found == {}


@pytest.mark.parametrize("folder", ["home", "root", "work", "tmp"])
def test_the_search_for_machines_finds_absolute_paths_alone(folder: str) -> None:
    path = f"/{folder}/me"
    assert re.search(MACHINES, f"see {path}")
    assert re.search(MACHINES, f'"{path}"')
    assert not re.search(MACHINES, f"https://example.org{path}")
    assert not re.search(MACHINES, f"here{path}")


def constants_without_reason(source: str) -> list[str]:
    """Return the numbers that a module names in capitals with no comment or docstring beside them.

    A comment counts for all constants up to the next empty line.
    """
    lines, body = source.splitlines(), ast.parse(source).body
    found = []
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or not is_a_number(
            statement.value
        ):
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [node.id for node in ast.walk(targets[0]) if isinstance(node, ast.Name)]
        assert statement.end_lineno is not None
        last = statement.end_lineno
        first = statement.lineno - 1
        while first > 0 and lines[first - 1].strip():
            first -= 1
        beside = "#" in "".join([*lines[first:last], *lines[last : last + 1]])
        said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if names and all(map(str.isupper, names)) and not beside and not said:
            found.append(", ".join(names))
    return found


def is_a_number(node: ast.expr | None) -> bool:
    """Return whether an expression consists of literal numbers alone."""
    match node:
        case ast.Constant(value=bool()):
            return False
        case ast.Constant(value=int() | float()):
            return True
        case ast.UnaryOp(operand=inner):
            return is_a_number(inner)
        case ast.BinOp(left=left, right=right):
            return is_a_number(left) and is_a_number(right)
        case ast.Tuple(elts=parts):
            return bool(parts) and all(map(is_a_number, parts))
    return False


def test_every_number_that_is_named_says_why() -> None:
    bare = {
        name_of(path): names
        for path in SHIPPED
        if (names := constants_without_reason(path.read_text(encoding="utf-8")))
    }
    assert bare == {}


def test_the_search_for_reasons_sees_comments_and_docstrings() -> None:
    source = (
        'A = 1\n\n# Why.\nB = 2\nC = -3.0\n\nD = 4\n"""Why."""\n\nE, F = 2**4, (1, 2)\n'
        "\nG = 5  # why\n\nh = 6\nTEXT = 'a'\nYES = True\n"
    )
    assert constants_without_reason(source) == ["A", "E, F"]
