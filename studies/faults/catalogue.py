"""The named faults of a run: what happens, where, and by which words its cause has to be named.

All happen in the middle of a run, at the message that is given. On the demo's bench:
`server_generator` sends the frames, `client_generator` plays the rotation, `client_phase` and
`server_phase` hold local oscillators, the clone and the shutter, two oscilloscopes record.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl.instruments.simulated.faults.plan import PlannedFault


@dataclass(frozen=True)
class NamedFault:
    """A fault with a name; `cause`: a regular expression for what names it where it stops a run."""

    name: str
    fault: PlannedFault
    cause: str


def _at(
    panel: str, on: str, kind: str, *, cause: str = "", after: int = 2, **more: object
) -> tuple[PlannedFault, str]:
    keys = {"panel": panel, "on": on, "kind": kind, "after": after, **more}
    return PlannedFault.model_validate(keys), cause or panel


def _light(kind: str, cause: str, **more: object) -> tuple[PlannedFault, str]:
    return _at("server_generator", "*TRG", kind, cause=cause, after=6, **more)


_SCOPE, _ASKED, _RECORD, _PREAMBLE = "client_scope", ":OPER:COND?", ":WAV:DATA?", ":WAV:PRE?"
_SENDER, _PHASE = "server_generator", "client_phase"

_FAULTS: dict[str, tuple[PlannedFault, str]] = {
    "reply lost": _at(_SCOPE, _ASKED, "lost"),
    "record lost": _at(_SCOPE, _RECORD, "lost"),
    "reply to the error query lost": _at(_SENDER, "SYST:ERR?", "lost"),
    "reply 10 ms late": _at(_SCOPE, _ASKED, "late", value=0.01),
    "reply a minute late": _at(_SCOPE, _ASKED, "late", value=60.0),
    "reply cut": _at(_SCOPE, _PREAMBLE, "cut", value=5.0),
    "reply doubled": _at(_SCOPE, _PREAMBLE, "doubled"),
    "reply doubled 10 ms late": _at(_SCOPE, _ASKED, "doubled late", value=0.01),
    "reply garbled": _at(_SCOPE, _PREAMBLE, "garbled"),
    "reply stale": _at(_SCOPE, _PREAMBLE, "stale", value=0.01),
    "reply endless": _at(_SCOPE, _ASKED, "endless"),
    "reply empty": _at(_SCOPE, _ASKED, "empty"),
    "reply 9.91E37": _at(_SCOPE, _ASKED, "said", text="9.91E37"),
    "digits with an underscore": _at(_SCOPE, _PREAMBLE, "underscore"),
    "block cut": _at(_SCOPE, _RECORD, "block cut"),
    "block's header too large": _at(_SCOPE, _RECORD, "block longer"),
    "setting lost": _at(_PHASE, "VOLT:OFFS ", "command lost"),
    "settings lost": _at(_PHASE, "VOLT:OFFS ", "command lost", times=0),
    "setting garbled": _at(_PHASE, "VOLT:OFFS ", "command garbled"),
    "connection dropped": _at(_SCOPE, _ASKED, "dropped"),
    "connection dropped for 5 s": _at(_SCOPE, _ASKED, "dropped", value=5.0),
    "connection half-closed": _at(_SCOPE, _ASKED, "half-closed"),
    "another instrument in its place": _at(
        _SCOPE, _ASKED, "other serial", text="MY57450002 > MY57459999", cause="MY57459999"
    ),
    "instrument silent": _at(_SCOPE, "", "silent", times=0),
    "generator of frames restarts": _at(_SENDER, "*TRG", "reboot"),
    "generator of the rotation restarts": _at("client_generator", "", "reboot", after=40),
    "source of the clone's gain restarts": _at(_PHASE, "", "reboot", after=20),
    "source of the shutter restarts": _at("server_phase", "", "reboot", after=20),
    "oscilloscope restarts": _at(_SCOPE, _ASKED, "reboot"),
    "generator restarts for 20 s": _at(_SENDER, "*TRG", "reboot", value=20.0),
    "supply of an instrument lost": _at(_SENDER, "*TRG", "reboot", value=1e6),
    "local mode": _at(_PHASE, "", "local", times=0),
    "error queue full": _at(_SENDER, "*TRG", "queue full", value=40.0),
    "error of another program": _at(_SENDER, "*TRG", "foreign error"),
    "another program stops the output": _at(
        _SENDER, "*TRG", "panel", text="OUTP1 0 | OUTP2 0", cause="server_generator|monitor"
    ),
    "mode hop": _light("mode hop", "server_laser emits", value=50e9),
    "laser dims": _light("laser dims", "server_laser emits", value=0.3),
    "fibre cut": _light("fibre cut", "the fibre to the client"),
    "return fibre cut": _light("return fibre cut", "the fibre back to the server"),
    "fading": _light("fading", "the fibre to the client", value=3.0),
    "return fading": _light("return fading", "the fibre back to the server", value=3.0),
    "bias jump": _light("bias jump", "a bias has moved", value=0.5),
    "polarisation jump at the client": _light(
        "polarisation jump", "client.*polarisation turned", value=2.5
    ),
    "polarisation jump at the server": _light(
        "polarisation jump", "transmittance", value=2.5, party="server"
    ),
    "client's local oscillator lost": _light("oscillator lost", "client's receiver.*oscillator"),
    "server's local oscillator lost": _light(
        "oscillator lost", "server's receiver.*oscillator", party="server"
    ),
    "client's detector saturates": _light("saturation", "client.*(clip|saturat)", value=0.02),
    "server's detector saturates": _light(
        "saturation", "server.*(clip|saturat)", value=0.01, party="server"
    ),
    "supply of the client's detector lost": _light(
        "detector supply lost", "client's receiver.*detector's supply"
    ),
    "supply of the server's detector lost": _light(
        "detector supply lost", "server's receiver.*detector's supply", party="server"
    ),
    "attenuator stuck open": _light(
        "attenuator stuck open", "attenuator is not where it is set", value=0.5
    ),
    "clone without gain": _light("clone without gain", "the clone passes none on|its gain"),
    "phase noise": _light("phase noise", "phase|noise", value=1e5),
    "clock slip at the client": _light("clock slip", "clock", value=500.0),
    "clock slip at the server": _light("clock slip", "clock", value=500.0, party="server"),
    "trigger lost": _light("trigger lost", "trigger"),
    "trigger of the rotation lost": _light("rotation untriggered", "unrotated.*trigger"),
}

CATALOGUE: tuple[NamedFault, ...] = tuple(
    NamedFault(name, fault, cause) for name, (fault, cause) in _FAULTS.items()
)
"""All faults of a run, those of wires and instruments first."""
