"""Text from elsewhere made visible: control characters are written out, so that none acts."""

from __future__ import annotations

import logging
import re

from labctl.haste import in_haste
from labctl.said_in_time import sayer

# Controls (C0 but tab and newline, DEL, C1), the soft hyphen, and what is invisible or turns the
# direction of writing (Unicode categories Cf, Zl and Zp of general punctuation; surrogates).
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Return text in which nothing but tabs and newlines acts on a terminal.

    What an instrument says of itself, the name of a file and the text of a record may hold
    escapes that rewrite what was printed, set a window's title or paste into a shell.

    >>> visible("LASER\x1b[2J off")
    'LASER\\x1b[2J off'
    """
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def visible_line(text: str) -> str:
    r"""Return text as one line: newlines and tabs are written out too.

    >>> visible_line("ACME,1\nall is safe")
    'ACME,1\\nall is safe'
    """
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


class _VisibleRecords(logging.Filter):
    """Makes the text of each record visible, before any handler of a host program has it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the visible text in the record's place; every record passes."""
        record.msg, record.args = visible_line(record.getMessage()), ()
        if record.exc_info and record.exc_info[0] is not None:
            # Formatters take a traceback that is there already.
            record.exc_text = visible(logging.Formatter().formatException(record.exc_info))
        return True


class _RecordsInTime(_VisibleRecords):
    """Has the handlers take records in another thread, where nothing may be held up by them.

    always: for what has to do with safety; otherwise only where light must go off: in haste.
    """

    def __init__(self, *, always: bool) -> None:
        super().__init__()
        self._always = always

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the visible text in the record's place; False for one that the sayer takes over."""
        super().filter(record)
        if not (self._always or in_haste()):
            return True
        sayer.say(lambda: logging.getLogger(record.name).callHandlers(record))
        return False


_IN_HASTE = _RecordsInTime(always=False)
_ALWAYS = _RecordsInTime(always=True)


def visible_logger(name: str) -> logging.Logger:
    """Return the logger of this name, whose records cannot act on a terminal.

    Identities, replies and errors of instruments go into it; where they are written to is for the
    program that uses labctl to say. No handler of it holds up the way to the safe state.
    """
    logger = logging.getLogger(name)
    logger.addFilter(_ALWAYS if name.startswith("labctl.station.") else _IN_HASTE)
    return logger
