"""Another instrument in a panel's place: its replies have another serial number in them."""

from __future__ import annotations

from labctl.instruments.codecs.itla import FRAME_BYTES, Reply

# Of an ITLA module: the register that announces the serial number, and the one that gives two of
# its characters at a time (docs/wire/purephotonics_ppcl550.md, section Registers).
_SERIAL, _NEXT = "04", "0b"


class OtherSerial:
    """A serial number put instead of another, in text or in an ITLA's frames."""

    def __init__(self, old: str, new: str, *, framed: bool) -> None:
        self._old, self._new = old.encode("ascii"), new.encode("ascii")
        self._framed = framed
        self._at: int | None = None
        self._due = False

    def asked(self, message: str) -> None:
        """Take note of a message as plans write it: which register of a module is read next."""
        _, _, rest = message.partition("read ")
        register = rest[:2]
        if register == _SERIAL:
            self._at = 0
        elif register != _NEXT:
            self._at = None
        self._due = register == _NEXT and self._at is not None

    def said(self, data: bytes) -> bytes:
        """Return a reply as the other instrument gives it."""
        if not self._framed:
            return data.replace(self._old, self._new)
        if not self._due or self._at is None or len(data) != FRAME_BYTES:
            return data
        reply = Reply.decode(data)
        shown = self._new[self._at : self._at + 2].ljust(2, b"\0")
        self._at += 2
        self._due = False
        return Reply(reply.register, int.from_bytes(shown, "big"), reply.status).encode()
