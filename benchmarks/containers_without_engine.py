"""The image's recipe and the compose file, followed without a container engine: does it all work?

    sudo python benchmarks/containers_without_engine.py [--python /usr/local/bin] [--images 3]

Builds the image as `deploy/Dockerfile` says, over this machine's own Python in place of the base
image (`image_recipe.py`), and runs the services of `deploy/compose.yaml` in namespaces, with the
commands, users, addresses, volumes and health checks of that file (`namespaces.py`). Then:

1. The services come up in order; the client's images are classified.
2. No container reaches the other side's doors, writes to its root or has a capability.
3. The server is killed while the laser is lit: after how long is it seen dark? Started again, it
   serves the next client.
4. The server is stopped while the laser is lit: how does it end, and when is it dark?

Prints a line for each; ends with exit code 1 if one is not as it should be. Needs root, iproute2,
util-linux and PyYAML; pip fetches what the image installs. Nothing is left on the machine.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]
from image_recipe import Built, build
from namespaces import Container, Pod, interpolated, run
from small_sites import hand_out_keys

from labctl.party import Party

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
# Calibration and alignment of a whole network's bench, on two busy processors.
PATIENCE_S = 240.0
# Of sched.h: new mounts, and a new network.
_NEW_MOUNTS, _NEW_NETWORK = 0x00020000, 0x40000000


def _connects(address: str, port: int) -> list[str]:
    reach = f"import socket; socket.create_connection(({address!r}, {port}), 2)"
    return ["python", "-c", reach]


class Trial:
    """The pod, and what was seen in it."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.failed: list[str] = []
        station = pod.image.place("/etc/labctl/server.toml").read_text(encoding="utf-8")
        self._laser = tomllib.loads(station)["instruments"]["server_laser"]["address"]

    def seen(self, what: str, found: str, *, right: bool) -> None:
        """Print what was seen; note it if it should have been otherwise."""
        print(f"{'yes' if right else 'NO '}  {what}: {found}", flush=True)
        if not right:
            self.failed.append(what)

    def lit(self) -> bool:
        """Ask the laser from where the server's guard is."""
        source = (ROOT / "benchmarks" / "small_sites.py").read_text(encoding="utf-8")
        code = f"{source}\nprint('lit' if emits({self._laser!r}) else 'dark')"
        exit_code, said = self.pod.ask("server_guard", "python", "-c", code)
        if exit_code:
            raise RuntimeError(said)
        return said.split()[-1] == "lit"

    def wait_for(self, what: Callable[[], bool], about: Container) -> float:
        """Return after how many seconds something is so; raises TimeoutError."""
        began_s = time.monotonic()
        while not what():
            if time.monotonic() - began_s > PATIENCE_S:
                raise TimeoutError(f"{about.name}: {about.text[-2000:]}")
            time.sleep(0.1)
        return time.monotonic() - began_s

    def whole(self) -> None:
        """Start all services, as `docker compose up`."""
        began_s = time.monotonic()
        self.pod.up(
            *("bench", "server_guard", "server", "client_guard", "client"), patience_s=PATIENCE_S
        )
        client = self.pod.containers["client"]
        code = client.process.wait(PATIENCE_S)
        passed_s = time.monotonic() - began_s
        right = code == 0 and "classified by" in client.text and "accepted" in client.text
        self.seen("client classifies", f"exit code {code} after {passed_s:.0f} s", right=right)
        if not right:
            print(client.text, self.pod.containers["server"].text)

    def apart(self) -> None:
        """Look for ways that should not be."""
        for name, address, port, reached in (
            ("client", "10.24.2.10", 24902, True),
            ("client", "10.24.1.10", 24801, False),
            ("server_guard", "10.24.1.10", 24802, True),
            ("server_guard", "10.24.2.10", 24902, False),
            ("client", "1.1.1.1", 443, False),
        ):
            code, said = self.pod.ask(name, *_connects(address, port))
            last = said.strip().splitlines()[-1] if said.strip() else "connected"
            self.seen(f"{name} to {address}:{port}", last, right=(code == 0) is reached)
        code, said = self.pod.ask("server", "sh", "-c", "echo x > /etc/labctl/server.toml")
        self.seen("write to the root", said.strip(), right="Read-only" in said and code != 0)
        _, said = self.pod.ask(
            "server", "grep", "-E", "CapEff|CapBnd|NoNewPrivs", "/proc/self/status"
        )
        rights = said.split()
        self.seen("capabilities", " ".join(rights), right=rights[1::2] == ["0" * 16, "0" * 16, "1"])

    def lit_by_a_client(self) -> tuple[Container, Container]:
        """Start a client, and return server and client once the laser is lit."""
        self.pod.up("client", patience_s=PATIENCE_S)
        client = self.pod.containers["client"]
        self.wait_for(self.lit, client)
        return self.pod.containers["server"], client

    def killed(self) -> None:
        """Kill the server with the laser lit, and start it again."""
        server, client = self.lit_by_a_client()
        server.signal(signal.SIGKILL)
        dark_s = self.wait_for(lambda: not self.lit(), server)
        self.seen("server killed, seen dark after", f"{dark_s:.1f} s", right=dark_s < 15.0)
        code = client.process.wait(PATIENCE_S)
        self.seen("its client ends", f"exit code {code}", right=code == 1)
        self.pod.up("server", "client", patience_s=PATIENCE_S)
        code = self.pod.containers["client"].process.wait(PATIENCE_S)
        self.seen("started again, it serves", f"exit code {code}", right=code == 0)

    def stopped(self) -> None:
        """Stop the server with the laser lit."""
        server, client = self.lit_by_a_client()
        began_s = time.monotonic()
        server.signal(signal.SIGTERM)
        code = server.process.wait(30.0)
        passed_s = time.monotonic() - began_s
        dark = not self.lit()
        found = f"exit code {code} after {passed_s:.1f} s, {'dark' if dark else 'LIT'}"
        self.seen("server stopped", found, right=code == 128 + signal.SIGTERM and dark)
        client.process.wait(PATIENCE_S)


def prepared(state: Path, path: str) -> Built:
    """Build the image, and make the parties' keys, which its user may read."""
    began_s = time.monotonic()
    image = build(DEPLOY / "Dockerfile", ROOT, folder=state, path=path)
    print(f"yes  the recipe's steps: {time.monotonic() - began_s:.0f} s", flush=True)
    hosts = {Party.SERVER: "company", Party.CLIENT: "hospital"}
    hand_out_keys(state / "keys", hosts, server_host="10.24.0.10")
    for party in Party:
        run(f"chown -R 10001:10001 {state / 'keys' / party}")
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=str(Path(sys.base_prefix) / "bin"))
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--state", default="/dev/shm", help="folder on another file system than /")
    chosen = parser.parse_args()
    state = Path(tempfile.mkdtemp(dir=chosen.state))
    state.chmod(0o755)
    pod: Pod | None = None
    try:
        image = prepared(state, f"{chosen.python}:/usr/local/bin:/usr/bin:/bin")
        if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS | _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "no namespaces: this needs root")
        run("mount --make-rprivate /; ip link set lo up")
        keys = {f"{each.upper()}_KEYS": str(state / "keys" / each) for each in Party}
        text: Any = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
        variables = {**keys, "IMAGES": str(chosen.images)}
        pod = Pod(interpolated(text, variables), image, state)
        pod.networks()
        trial = Trial(pod)
        trial.whole()
        trial.apart()
        trial.killed()
        trial.stopped()
    finally:
        if pod is not None:
            pod.down()
        shutil.rmtree(state, ignore_errors=True)
    if trial.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    os.umask(0o022)
    main()
