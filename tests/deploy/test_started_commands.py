"""What compose file, image and units start is what labctl takes, at paths that the image has."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
from image_recipe import Step, read_recipe, words_of
from namespaces import interpolated
from typer.core import TyperGroup

from labctl.cli import app
from labctl.data import shipped_two_sites_bench_path

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
STAGES = read_recipe((DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
IMAGE = STAGES[-1]
RUNS = " ".join(step.words for step in IMAGE.steps if step.instruction == "RUN")
SERVICES = ("bench", "server", "server_guard", "client", "client_guard")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the compose file")
    text = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    loaded: dict[str, Any] = interpolated(text, {})
    return loaded


def taken(words: list[str]) -> dict[str, Any]:
    """Return what labctl takes words for, by its own reader; raises what it refuses them with."""
    found, rest = typer.main.get_command(app), words
    while isinstance(found, TyperGroup):
        inner = found.get_command(found.context_class(found), rest[0])
        assert inner is not None, rest[0]
        found, rest = inner, rest[1:]
    return dict(found.make_context("labctl", [*rest]).params)


def started(service: dict[str, Any]) -> list[str]:
    """Return all words that start a service, labctl's own from the last `labctl` on."""
    entry = service.get("entrypoint") or words_of(IMAGE.last("ENTRYPOINT"))
    return [*entry, *service.get("command", [])]


def of_labctl(words: list[str]) -> list[str]:
    return words[words.index("labctl") + 1 :]


def test_the_reader_refuses_what_labctl_would_refuse() -> None:
    with pytest.raises(Exception, match="No such option"):
        taken(["client", "client.toml", "--identity", "keys", "--server", "a:1", "--nothing"])
    with pytest.raises(Exception, match="Missing"):
        taken(["client", "client.toml"])


@pytest.mark.parametrize("name", ["bench", "server", "client"])
def test_labctl_takes_the_command_of_a_service(name: str, compose: dict[str, Any]) -> None:
    found = taken(of_labctl(started(compose["services"][name])))
    station = found.get("station") or found.get("bench")
    assert str(station) == f"/etc/labctl/{name}.toml"


@pytest.mark.parametrize("name", SERVICES)
def test_the_image_has_every_path_that_a_service_starts_with(
    name: str, compose: dict[str, Any]
) -> None:
    service = compose["services"][name]
    words = started(service)
    scripts = [s.words.split()[1] for s in IMAGE.steps if s == Step("COPY", s.words)]
    assert words[0] == "labctl" or f"/usr/local/bin/{words[0]}" in scripts
    placed = re.findall(r"place_sites\.py (\S+)", RUNS)
    owned = re.findall(r"/\S+", RUNS.partition("install -d")[2])
    volumes = [
        each["target"] if isinstance(each, dict) else each.partition(":")[2]
        for each in service.get("volumes", [])
    ]
    for word in words:
        if word.startswith("/"):
            within = [word.startswith(f"{folder}/") or word == folder for folder in volumes]
            assert placed == [str(Path(word).parent)] or any(within), word
    # What a new volume has is what the image has there: the service's user has to own it.
    user = service["user"].split(":")[0]
    assert f"-o {user} -g {user}" in RUNS
    written = [
        each.partition(":")[2] for each in service.get("volumes", []) if isinstance(each, str)
    ]
    assert set(written) <= set(owned)
    assert IMAGE.last("USER") == service["user"]


def test_a_guard_is_asked_for_what_its_script_knows(compose: dict[str, Any]) -> None:
    known = set(re.findall(r"(?m)^(\w+)\)$", (DEPLOY / "guard.sh").read_text(encoding="utf-8")))
    for name in SERVICES:
        words = started(compose["services"][name])
        if words[0] == "labctl-guard":
            assert words[1] in known
    # What the guard itself runs.
    assert str(taken(["safe", "/etc/labctl/server.toml"])["file"]) == "/etc/labctl/server.toml"


def test_addresses_and_ports_are_those_that_somebody_listens_at(compose: dict[str, Any]) -> None:
    services = compose["services"]
    listens = taken(of_labctl(started(services["server"])))["listen"]
    assert taken(of_labctl(started(services["client"])))["server"] == listens
    host, _, port = listens.rpartition(":")
    assert services["server"]["networks"]["channel"]["ipv4_address"] == host

    def asked(name: str) -> tuple[str, int]:
        (check,) = [w for w in services[name]["healthcheck"]["test"] if "create_connection" in w]
        found = re.search(r"\('([\d.]+)', (\d+)\)", check)
        assert found is not None
        return found[1], int(found[2])

    assert asked("server") == (host, int(port))
    doors = tomllib.loads(shipped_two_sites_bench_path().read_text(encoding="utf-8"))["doors"]
    at, door = asked("bench")
    assert services["bench"]["networks"]["server_bench"]["ipv4_address"] == at
    first = doors["server"]["first_port"]
    assert first <= door < first + 2 * len(doors["server"]["panels"])


def test_a_service_waits_only_for_what_has_a_health_to_wait_for(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for needed, how in service.get("depends_on", {}).items():
            healthy = how["condition"] == "service_healthy"
            assert not healthy or "healthcheck" in compose["services"][needed]


def test_the_image_installs_what_two_parties_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (extra,) = re.findall(r"\.whl\)\[(\w+)\]", RUNS)
    assert any(
        each.startswith("grpcio") for each in project["project"]["optional-dependencies"][extra]
    )
    assert {"labctl"} <= set(project["project"]["scripts"])
    for step in (step for stage in STAGES for step in stage.steps if step.instruction == "COPY"):
        what = step.words.split()[0]
        assert what.startswith("--from=") or (ROOT / what).exists()


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_labctl_takes_what_a_unit_runs(path: Path) -> None:
    read = configparser.ConfigParser(interpolation=None, strict=True)
    read.optionxform = str  # type: ignore[assignment,method-assign]  # keys have capitals
    read.read_string(path.read_text(encoding="utf-8"))
    service = read["Service"]
    for key in ("ExecStart", "ExecStopPost"):
        if key in service:
            program, *words = service[key].split()
            assert program == "/opt/labctl/bin/labctl"
            found = taken(words)
            station = str(found.get("station") or found.get("bench") or found.get("file"))
            assert station.startswith("/etc/labctl/")
            assert station in service["ExecStart"]
