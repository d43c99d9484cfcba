"""What is used of protobuf, or what to install where it is not there."""

from __future__ import annotations

from labctl.errors import UsageError

try:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import DecodeError, Message
except ImportError as error:
    raise UsageError(
        "two parties in two processes need protobuf: pip install 'labctl[parties]'"
    ) from error

__all__ = ["DecodeError", "Descriptor", "FieldDescriptor", "Message"]
