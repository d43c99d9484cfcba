"""Runs the services of a compose file in namespaces of Linux: what deploy/compose.yaml uses.

Each container has its own processes, mounts and network. Its root is the image over the file system
of this machine, read-only; its user has no capabilities and gets none. A network is a bridge
without an address, so that no way leads out of it. Kept to: user, entrypoint, command, networks,
volumes, tmpfs, read_only, cap_drop, security_opt, init, depends_on, healthcheck. Not kept to:
restart, pids_limit, logging. Needs root, in a network namespace and mounts apart from the rest.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from image_recipe import Built, words_of

# Passes signals on and ends with the program, as the init process of an engine does.
_INIT = (
    '"$@" & child=$!; trap "kill -TERM $child" TERM; code=0; '
    "while kill -0 $child 2>/dev/null; do code=0; wait $child || code=$?; done; exit $code"
)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_KNOWN = {
    *("image", "user", "read_only", "cap_drop", "security_opt", "pids_limit", "init"),
    *("stop_grace_period", "tmpfs", "logging", "entrypoint", "command", "networks"),
    *("depends_on", "restart", "volumes", "healthcheck"),
}


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """Return a value of a compose file with `${NAME:-default}` replaced."""
    if isinstance(value, dict):
        return {key: interpolated(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, variables) for each in value]
    if isinstance(value, str):
        return re.sub(
            r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1]) or found[2], value
        )
    return value


@dataclass
class Container:
    """A service that was started. process: of this machine, ends with the container's first one."""

    name: str
    process: subprocess.Popen[str]
    said: Path

    @property
    def first(self) -> int:
        """Return the number of the container's first process, on this machine."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        until_s = time.monotonic() + 10.0
        while not (found := children.read_text().split()):
            if time.monotonic() > until_s:
                raise TimeoutError(f"{self.name} has no process")
            time.sleep(0.01)
        return int(found[0])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal as an engine does: to the first process."""
        os.kill(self.first, number)

    @property
    def text(self) -> str:
        """What it said so far."""
        return self.said.read_text(encoding="utf-8", errors="replace")


@dataclass
class Pod:
    """A compose file whose services run. folder: for volumes and logs, on another disk than /."""

    compose: dict[str, Any]
    image: Built
    folder: Path
    containers: dict[str, Container] = field(default_factory=dict)
    _used: dict[str, set[str]] = field(default_factory=dict)
    _probes: int = 0

    def __post_init__(self) -> None:
        for name, service in self.compose["services"].items():
            if unknown := set(service) - _KNOWN:
                raise ValueError(f"{name}: {sorted(unknown)} is not known here")

    def networks(self) -> None:
        """Make the networks, and each service's place in them."""
        run("mount -t tmpfs tmpfs /run; mkdir /run/netns")
        for number, name in enumerate(self.compose["networks"]):
            run(f"ip link add br{number} type bridge; ip link set br{number} up")
            self._used[name] = {
                each["networks"][name]["ipv4_address"]
                for each in self.compose["services"].values()
                if (each["networks"].get(name) or {}).get("ipv4_address")
            }
        for place, (name, service) in enumerate(self.compose["services"].items()):
            run(f"ip netns add {name}; ip -n {name} link set lo up")
            for bridge, (network, table) in enumerate(self.compose["networks"].items()):
                if network in service["networks"]:
                    subnet = IPv4Network(table["ipam"]["config"][0]["subnet"])
                    given = (service["networks"][network] or {}).get("ipv4_address")
                    self._connect(
                        name,
                        f"v{place}n{bridge}",
                        bridge,
                        subnet,
                        given or self._free(network, subnet),
                    )

    def _free(self, network: str, subnet: IPv4Network) -> str:
        taken = self._used[network]
        # The first one is an engine's own.
        free = next(str(each) for each in list(subnet.hosts())[1:] if str(each) not in taken)
        taken.add(free)
        return free

    def _connect(
        self, name: str, link: str, bridge: int, subnet: IPv4Network, address: str
    ) -> None:
        run(
            f"ip link add {link} type veth peer name e{bridge} netns {name}; "
            f"ip link set {link} master br{bridge} up; "
            f"ip -n {name} addr add {address}/{subnet.prefixlen} dev e{bridge}; "
            f"ip -n {name} link set e{bridge} up"
        )

    def start(self, name: str, command: list[str] | None = None) -> Container:
        """Start a service, or another command in its place, network and volumes."""
        service = self.compose["services"][name]
        words = command
        if words is None:
            entry = service.get("entrypoint") or words_of(self.image.stage.last("ENTRYPOINT"))
            words = [*entry, *service.get("command", [])]
        self._probes += 1
        own = self.folder / f"{name}-{self._probes}"
        own.mkdir()
        script = "\n".join([*self._mounts(service, own), self._entered(service, own, words)])
        said = own / "said"
        with said.open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [
                    *("ip", "netns", "exec", name, "unshare", "--mount", "--pid", "--fork"),
                    *("--kill-child=KILL", "sh", "-ec", script),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                text=True,
            )
        container = Container(name, process, said)
        if command is None:
            self.containers[name] = container
        return container

    def ask(self, name: str, *command: str, timeout_s: float = 60.0) -> tuple[int, str]:
        """Run a command in a service's place; return its exit code and what it said."""
        container = self.start(name, list(command))
        code = container.process.wait(timeout_s)
        return code, container.text

    def _mounts(self, service: dict[str, Any], own: Path) -> list[str]:
        root = own / "root"
        root.mkdir()
        lines = [
            f"mount -t overlay overlay -o lowerdir={self.image.files}:/ {root}",
            f"mount -t proc proc {root}/proc",
            f"mount -t tmpfs -o mode=755 tmpfs {root}/dev",
        ]
        for device in _DEVICES:
            there = f"{root}/dev/{device}"
            lines.append(f": > {there}; mount --bind /dev/{device} {there}")
        lines += [
            f"mkdir {root}/dev/pts {root}/dev/shm; ln -s pts/ptmx {root}/dev/ptmx",
            f"mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts {root}/dev/pts",
            f"mount -t tmpfs -o mode=1777,size=64m tmpfs {root}/dev/shm",
        ]
        for each in service["tmpfs"]:
            place, _, options = each.partition(":")
            lines.append(f"mount -t tmpfs -o {options} tmpfs {root}{place}")
        for volume in service.get("volumes", []):
            source, target, read_only = self._volume(volume)
            lines.append(f"mount --bind {shlex.quote(str(source))} {root}{target}")
            if read_only:
                lines.append(f"mount -o remount,bind,ro {root}{target}")
        return lines

    def _volume(self, volume: str | dict[str, Any]) -> tuple[Path, str, bool]:
        if isinstance(volume, dict):
            target = volume["target"]
            self.image.place(target).mkdir(parents=True, exist_ok=True)
            return Path(volume["source"]).resolve(), target, volume["read_only"]
        name, target = volume.split(":")
        source = self.folder / "volumes" / name
        if not source.exists():
            # A new volume is what the image has there, with its owner.
            source.mkdir(parents=True)
            inside = self.image.place(target).stat()
            os.chown(source, inside.st_uid, inside.st_gid)
        return source, target, False

    def _entered(self, service: dict[str, Any], own: Path, words: list[str]) -> str:
        user, group = service["user"].split(":")
        environment = {"PATH": self.image.path, **self.image.environment}
        if service["cap_drop"] != ["ALL"] or not service["init"] or not service["read_only"]:
            raise ValueError("only hardened services are known here")
        line = [
            *("chroot", str(own / "root"), "env", "-i"),
            *(f"{key}={value}" for key, value in environment.items()),
            *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"),
            *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
            *("sh", "-c", f"cd {self.image.workdir}; {_INIT}", "init", *words),
        ]
        return "exec " + " ".join(map(shlex.quote, line))

    def up(self, *names: str, patience_s: float) -> None:
        """Start services, each once those that it depends on are as it asks; in order."""
        for name in names:
            for needed, how in self.compose["services"][name].get("depends_on", {}).items():
                if how["condition"] == "service_healthy":
                    self._healthy(needed, patience_s)
            self.start(name)

    def _healthy(self, name: str, patience_s: float) -> None:
        check = self.compose["services"][name]["healthcheck"]["test"]
        until_s = time.monotonic() + patience_s
        while self.ask(name, *check[1:])[0]:
            container = self.containers[name]
            if container.process.poll() is not None or time.monotonic() > until_s:
                raise TimeoutError(f"{name} is not healthy: {container.text[-2000:]}")
            time.sleep(0.5)

    def down(self) -> None:
        """Kill what is left."""
        for container in self.containers.values():
            container.process.kill()
            container.process.wait()


def run(script: str) -> None:
    """Run a shell's script; raises CalledProcessError."""
    subprocess.run(["sh", "-ec", script], check=True)
