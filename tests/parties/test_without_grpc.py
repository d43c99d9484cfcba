"""Who does not speak over the channel pays nothing for it; a part that is missing is named."""

from __future__ import annotations

import subprocess
import sys

import pytest

SEEN = "print(sorted({name.partition('.')[0] for name in sys.modules} & {'grpc', 'google'}))"


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_neither_labctl_nor_its_command_line_nor_its_keys_load_grpc() -> None:
    loads = "import sys, labctl, labctl.cli, labctl.cli.keys, labctl.protocols.session"
    assert run(f"{loads}; {SEEN}") == "[]"


@pytest.mark.parametrize(
    ("lacks", "module"),
    [
        ("grpc", "grpc_server"),
        ("grpc", "grpc_client"),
        ("google.protobuf", "conversation"),
    ],
)
def test_a_missing_package_is_named_with_what_to_install(lacks: str, module: str) -> None:
    said = run(
        f"import sys; sys.modules['{lacks}'] = None\n"
        f"from labctl.errors import UsageError\n"
        f"try:\n import labctl.parties.{module}\n"
        "except UsageError as error:\n print(error)"
    )
    assert said.endswith("pip install 'labctl[parties]'")
