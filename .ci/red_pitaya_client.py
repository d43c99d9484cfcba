"""Fetch the maker's Red Pitaya client, one file of its public examples, and print where it is.

Usage: python .ci/red_pitaya_client.py [--url URL] [--folder FOLDER] (default .compat). The file
is of a pinned commit and checked against its digest. Exit status 3 if it cannot be reached, 1 if
what came is another file; nothing is kept then.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import sys
import urllib.request
from pathlib import Path

COMMIT = "cdd565e734624609200c02eba7d6e9919376a5b2"
URL = (
    f"https://raw.githubusercontent.com/RedPitaya/RedPitaya-Examples/{COMMIT}"
    "/SCPI_examples/Python/lib/redpitaya_scpi.py"
)
SHA256 = "9aa95a5d5a752ab10b7c4c30f1f0fec11568415fde69482ee608543b8f5d7186"
ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 20.0
MOST_BYTES = 1 << 20
OTHER_FILE, UNREACHABLE = 1, 3


def digest(data: bytes) -> str:
    """Return the SHA-256 of a file's content in hex."""
    return hashlib.sha256(data).hexdigest()


def fetch(url: str) -> bytes:
    """Read a file over http or https; raises OSError or HTTPException if it cannot be reached."""
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply:
        content: bytes = reply.read(MOST_BYTES)
    return content


def main() -> int:
    """Fetch the file unless it is there already; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=URL)
    parser.add_argument("--folder", type=Path, default=ROOT / ".compat")
    options = parser.parse_args()
    path = Path(options.folder).resolve() / "redpitaya_scpi.py"
    if not (path.is_file() and digest(path.read_bytes()) == SHA256):
        try:
            content = fetch(options.url)
        except (OSError, http.client.HTTPException, ValueError) as error:
            print(f"{options.url} is out of reach: {error}", file=sys.stderr)
            return UNREACHABLE
        if digest(content) != SHA256:
            print(f"{options.url} has SHA-256 {digest(content)}, not {SHA256}", file=sys.stderr)
            return OTHER_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
