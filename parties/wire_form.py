"""Whether bytes are a message of the schema, looked at before anything is built of them.

protobuf's own parser is lenient: it skips fields that it does not know, lets the last of two values
count, and builds an object for each of half a million empty parts in a message of 1 MB. This walk
reads tags and lengths alone (https://protobuf.dev/programming-guides/encoding) and refuses all of
that, so that decoding costs no more memory than a small multiple of the message.
"""

from __future__ import annotations

from labctl.errors import ProtocolError
from labctl.parties.protobuf import Descriptor, FieldDescriptor

# Layers of a network, versions: more is no message of ours. Large arrays are `bytes`.
MOST_ITEMS = 256

# 64 bits in groups of seven.
_LONGEST_VARINT = 10
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SCALAR_FORMS = {
    FieldDescriptor.TYPE_DOUBLE: _FIXED64,
    FieldDescriptor.TYPE_FIXED64: _FIXED64,
    FieldDescriptor.TYPE_SFIXED64: _FIXED64,
    FieldDescriptor.TYPE_FLOAT: _FIXED32,
    FieldDescriptor.TYPE_FIXED32: _FIXED32,
    FieldDescriptor.TYPE_SFIXED32: _FIXED32,
    FieldDescriptor.TYPE_STRING: _BYTES,
    FieldDescriptor.TYPE_BYTES: _BYTES,
    FieldDescriptor.TYPE_MESSAGE: _BYTES,
}


def require_form(data: bytes, kind: Descriptor) -> None:
    """Raise ProtocolError for bytes that are no message of this kind, naming the field."""
    _require_part(memoryview(data), kind)


def _require_part(data: memoryview, kind: Descriptor) -> None:
    met: dict[str, int] = {}
    place = 0
    while place < len(data):
        tag, place = _varint(data, place, kind.name)
        field = kind.fields_by_number.get(tag >> 3)
        if field is None:
            known = ", ".join(str(number) for number in sorted(kind.fields_by_number)) or "none"
            raise malformed(kind.name, f"field {tag >> 3} unknown; expected one of: {known}")
        place = _require_value(data, place, field, tag & 7)
        # Of a oneof there may be one value in all.
        among = field.containing_oneof
        name = field.name if among is None else among.name
        met[name] = met.get(name, 0) + 1
        most = MOST_ITEMS if field.is_repeated else 1
        if met[name] > most:
            raise malformed(kind.name, f"{name} comes {met[name]} times; expected at most {most}")


def _require_value(data: memoryview, place: int, field: FieldDescriptor, form: int) -> int:
    """Look at one value; return the place behind it."""
    own = _SCALAR_FORMS.get(field.type, _VARINT)
    packed = field.is_repeated and own != _BYTES
    expected = _BYTES if packed else own
    name = field.full_name.rpartition(".v1.")[2]
    if form != expected:
        raise malformed(name, f"wire type {form}; expected {expected}")
    if form == _VARINT:
        return _varint(data, place, name)[1]
    if form == _BYTES:
        length, place = _varint(data, place, name)
    else:
        length = 8 if form == _FIXED64 else 4
    end = place + length
    if end > len(data):
        raise malformed(name, f"{length} bytes announced, {len(data) - place} are left")
    if packed:
        _require_packed(data[place:end], own, name)
    elif field.message_type is not None:
        _require_part(data[place:end], field.message_type)
    return end


def _require_packed(values: memoryview, form: int, name: str) -> None:
    """Refuse a packed list that is too long, before a number of it is read."""
    longest = {_VARINT: _LONGEST_VARINT, _FIXED64: 8, _FIXED32: 4}[form]
    if len(values) > MOST_ITEMS * longest:
        raise malformed(
            name, f"a list of {len(values)} bytes; expected at most {MOST_ITEMS} numbers"
        )
    count, place = 0, 0
    while place < len(values):
        place = _varint(values, place, name)[1] if form == _VARINT else place + longest
        count += 1
    if count > MOST_ITEMS:
        raise malformed(name, f"a list of {count} numbers; expected at most {MOST_ITEMS}")
    if place > len(values):
        raise malformed(name, "the last number of the list is cut off")


def _varint(data: memoryview, place: int, name: str) -> tuple[int, int]:
    """Return an unsigned number of at most 64 bits and the place behind it."""
    value = 0
    for index, byte in enumerate(data[place : place + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >> 64 or (byte == 0 and index):
                break
            return value, place + index + 1
    raise malformed(name, "a number that is cut off, too long, or not in its shortest form")


def malformed(what: str, problem: str) -> ProtocolError:
    """Return the error that names a part of a message and what is wrong with it."""
    return ProtocolError("message", what, problem)
