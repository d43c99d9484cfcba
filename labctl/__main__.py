"""Entry point of `labctl` and `python -m labctl`: Ctrl-C ends them without a traceback."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line and exit the process.

    While it is loaded, and after it has ended, Python's own answer to Ctrl-C would be a traceback.
    Until then nothing is done yet, and the system may end the process; after it, all is done.
    """
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if own:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from labctl.streams import occupy

    occupy()
    from labctl.cli import main as run

    try:
        run(own)
    finally:
        unclaimed = (signal.default_int_handler, signal.SIG_DFL)
        if own and signal.getsignal(signal.SIGINT) in unclaimed:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
