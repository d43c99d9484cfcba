"""Thousands of drawn messages for a front panel: no error, no hang, no growth, no silence after.

A search by drawing is never done, so it has two ways. As a test it draws the same messages each
time. `LABCTL_FUZZ_SEED=random` and `LABCTL_FUZZ_MESSAGES=20000` make it a search, and a failure
says which seed repeats it in a process that has loaded the same modules (hypothesis also draws
constants that it finds in them). Each message goes with reads, waits, device clears and trigger
pulses. What fails is made smaller by hypothesis, message by message and byte by byte.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from labctl.testing.grammar import Genes, Grammar
from labctl.testing.host import MOST_HELD_BYTES, Host, chosen_seed, held_bytes, no_hang, pauses

MESSAGES_VARIABLE = "LABCTL_FUZZ_MESSAGES"
"""Says how many messages a search draws that is given no number."""

_MESSAGES = "2000"
# Messages to a panel from one start, and random bytes that make a message.
_PER_EXAMPLE = 100
_GENE_BYTES = 16
_PAUSES_S = (1e-4, 0.01, 0.3, 5.0, 100.0, 0.0)
# Hypothesis also draws genes that mean no message, and repeats examples when it starts.
_MORE_EXAMPLES = 15


def panel_fuzz(
    bench: str | Path,
    panel: str,
    *,
    messages: int | None = None,
    seed: int | None = None,
    specified: Sequence[str] = (),
    question: bytes = b"*IDN?\n",
    answer: bytes = b"",
) -> None:
    """Send drawn messages to a panel; fails if one raises, hangs, leaks or leaves it silent.

    bench: a bench file; panel: its name there. messages: how many, by default 2000 or what
    LABCTL_FUZZ_MESSAGES says; seed: by default 1 or what LABCTL_FUZZ_SEED says ("random" draws
    one). specified: messages of the specification, as `messages_in` finds them in a file of tests.
    question: asks the panel who it is, with its terminator; answer: how its reply begins.

    Raises AssertionError, or what the panel raised, with a note of the seed and the messages.
    """
    host = Host(bench, panel)
    wanted = int(os.environ.get(MESSAGES_VARIABLE, _MESSAGES)) if messages is None else messages
    drawn = chosen_seed(seed)
    print(f"panel_fuzz of {panel}: seed {drawn}, {wanted} messages")
    grammar = Grammar(host.panel, specified, framed=host.framed)
    sent = 0

    @hypothesis.seed(drawn)
    @settings(
        deadline=None,
        max_examples=wanted // _PER_EXAMPLE + _MORE_EXAMPLES,
        database=None,
        derandomize=False,  # the seed decides
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.lists(
            st.binary(min_size=_GENE_BYTES, max_size=_GENE_BYTES),
            min_size=_PER_EXAMPLE,
            max_size=_PER_EXAMPLE,
        )
    )
    def play(genes: list[bytes]) -> None:
        nonlocal sent
        with no_hang():
            host.start()
            sent += sum(_send(host, gene, grammar) for gene in genes)
            held = held_bytes(host.panel)
            assert held < MOST_HELD_BYTES, f"it holds {held} bytes"
            host.check_alive(question, answer)

    try:
        play()
    except BaseException as error:
        error.add_note(f"panel_fuzz of {panel} with seed {drawn}")
        raise
    assert sent >= wanted, f"{sent} messages were drawn, {wanted} wanted"


def _send(host: Host, gene: bytes, grammar: Grammar) -> bool:
    """Send one message and do what comes with it; False if the gene means none."""
    genes = Genes(gene)
    what = genes.number(32)
    message = grammar.message(genes) if any(gene) else b""
    if not message:
        return False
    note(f"{message!r} then {what}")
    host.panel.write(message, end=what < 22)
    if what & 1:
        host.drain()
    elif what >= 12:
        host.bench.clock.sleep(_PAUSES_S[what % len(_PAUSES_S)])
    else:
        pauses(host)[what // 2]()
    return True
