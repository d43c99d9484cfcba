"""Which message may be said when, by the tables of the two machines and by nothing else.

Who looks on from outside sees messages alone, not what a machine does by itself. So each party may
be in one of several states, which its table gives: for a listener what the message leads to, for a
speaker what leads to the message, if an event of its own says it (`states.SAID`). A message that
no such pair of states allows is out of place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labctl.errors import ProtocolError
from labctl.party import Party
from labctl.protocols.messages import Abort, Message
from labctl.protocols.states import CLIENT, SAID, SERVER, Event, Own, PartyState, Table

TABLES: Mapping[Party, Table] = {Party.SERVER: SERVER, Party.CLIENT: CLIENT}
_SILENT = frozenset(Own) - frozenset(SAID)

States = frozenset[PartyState]


def other(party: Party) -> Party:
    """Return the one that listens when the given one speaks."""
    return Party.CLIENT if party is Party.SERVER else Party.SERVER


class Places:
    """Where both parties may be, by what was said so far."""

    def __init__(self, start: PartyState = PartyState.NEW) -> None:
        self._states: dict[Party, States] = dict.fromkeys(Party, frozenset({start}))

    def of(self, party: Party) -> States:
        """Return the states that a party may be in."""
        return self._states[party]

    def say(self, speaker: Party, kind: type[Message]) -> None:
        """Follow a message; raises ProtocolError, and changes nothing, if it is out of place."""
        listener = other(speaker)
        heard = self._after(listener, [kind])
        owned = [own for own, said in SAID.items() if said is kind]
        said = self._after(speaker, owned) if self._is_owned(speaker, owned) else None
        if not heard or said == frozenset():
            raise self.refused(speaker, kind)
        self._states[listener] = heard
        if said is not None:
            self._states[speaker] = said

    def may_speak(self, party: Party) -> bool:
        """Whether the other party's table takes any message, an abort aside."""
        return any(
            isinstance(event, type) and event is not Abort
            for state in self._states[other(party)]
            for event in TABLES[other(party)][state]
        )

    def refused(self, speaker: Party, kind: type) -> ProtocolError:
        """Return the error that says what the other party expects instead."""
        listener = other(speaker)
        due = {
            event.__name__
            for state in self._states[listener]
            for event in TABLES[listener][state]
            if isinstance(event, type)
        }
        states = " or ".join(sorted(map(str, self._states[listener])))
        names = " or ".join(sorted(due)) or "nothing"
        return ProtocolError(
            str(listener), states, f"message {kind.__name__} is out of place; expected {names}"
        )

    def _after(self, party: Party, events: Iterable[Event]) -> States:
        """Return where a party may be after one of these events, what it does unseen included."""
        table, found = TABLES[party], set(self._states[party])
        front = list(found)
        while front:
            state = front.pop()
            for event in _SILENT:
                unseen = table[state].get(event, frozenset()) - found
                found |= unseen
                front += unseen
        return frozenset(
            following
            for state in found
            for event in events
            for following in table[state].get(event, ())
        )

    @staticmethod
    def _is_owned(party: Party, owned: Iterable[Own]) -> bool:
        return any(own in events for own in owned for events in TABLES[party].values())
