"""TFRecord files and the tf.train.Example messages in them, read without TensorFlow.

    record    length: uint64 LE, crc of the length: uint32 LE, message: `length` bytes, crc of the message: uint32 LE
    Example   1: Features;  Features 1: entries of a map {1: name, 2: Feature}
    Feature   1: list of bytes | 2: list of floats | 3: list of int64; each list holds its values as field 1

The checksum of every length is checked, which finds a file that is cut short or is something else. The checksum of the
messages is not: pure Python would take minutes over a gigabyte, and a damaged image fails to decode.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bench.core.errors import UsageError

Values = dict[str, list[bytes] | list[int]]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # the wire types of protocol buffers


def examples(path: Path) -> Iterator[tuple[int, int, Values]]:
    """The messages of a file with the place of each: (offset, length, its features)."""
    for offset, message in records(path):
        yield offset, len(message), _checked(path, offset, message)


def example(path: Path, offset: int, length: int) -> Values:
    """The message at a place that `examples` has told."""
    with path.open("rb") as file:
        file.seek(offset)
        return _checked(path, offset, file.read(length))


def records(path: Path) -> Iterator[tuple[int, bytes]]:
    """The messages of a file, each with its offset. Raises UsageError where the file is not whole."""
    offset = 0
    with path.open("rb") as file:
        while head := file.read(12):
            length = int.from_bytes(head[:8], "little")
            known = len(head) == 12 and _masked_crc(head[:8]) == int.from_bytes(head[8:], "little")
            body = file.read(length + 4) if known else b""
            if not known or len(body) != length + 4:
                raise UsageError(f"{path} is not a whole TFRecord file (byte {offset}). Get it again.")
            yield offset + 12, body[:-4]
            offset += 16 + length


def _checked(path: Path, offset: int, message: bytes) -> Values:
    try:
        return parse(message)
    except (ValueError, IndexError, KeyError) as error:
        raise UsageError(f"{path} holds no tf.train.Example at byte {offset}. Get it again.") from error


def parse(message: bytes) -> Values:
    """A tf.train.Example as {name: values}; floats are left out."""
    found: Values = {}
    for features in _nested(message, 1):
        for entry in _nested(features, 1):
            fields = dict(_fields(entry))
            feature = fields[2]
            if not isinstance(feature, bytes) or not isinstance(fields[1], bytes):
                raise ValueError("an entry of the map is not a name and a feature")
            name = fields[1].decode()
            for kind, values in _fields(feature):
                if kind == 1 and isinstance(values, bytes):
                    found[name] = list(_nested(values, 1))
                elif kind == 3 and isinstance(values, bytes):
                    found[name] = _integers(values)
    return found


def _nested(message: bytes, number: int) -> Iterator[bytes]:
    for found, value in _fields(message):
        if found == number and isinstance(value, bytes):
            yield value


def _integers(message: bytes) -> list[int]:
    """The values of an Int64List: one by one, or packed into one run of bytes."""
    values: list[int] = []
    for _, value in _fields(message):
        if isinstance(value, int):
            values.append(value)
        else:
            at = 0
            while at < len(value):
                one, at = _varint(value, at)
                values.append(one)
    return [value - (1 << 64) if value >= 1 << 63 else value for value in values]


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of every field of a message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == _LENGTH:
            length, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > len(message):
            raise ValueError("a field runs past its message")
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _masked_crc(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum, which zlib does not offer."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _table()[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    def entry(value: int) -> int:
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        return value

    return tuple(map(entry, range(256)))
