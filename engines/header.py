"""The header of a safetensors file: read it, and refuse what is not one. Reads the first bytes only; no torch.

Layout (safetensors format, version 0.3 and later): 8 bytes little-endian length n, n bytes of JSON, then the tensors'
bytes without holes. We ask for more than the library does: known dtypes, a smaller header, fewer tensors.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated

import msgspec

from engines.errors import ModelError

MAX_HEADER_BYTES = 8 << 20
"""The largest real headers (SDXL in one file) take half a megabyte; the library itself admits 100 MB."""
MAX_TENSORS = 50_000
MAX_WEIGHT_BYTES = 64 << 30
ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip

_Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_WEIGHT_BYTES)]


class TensorInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor: its type, its shape, and where its bytes begin and end after the header."""

    dtype: str
    shape: Annotated[tuple[_Size, ...], msgspec.Meta(max_length=8)]
    data_offsets: tuple[_Size, _Size]


_tables = msgspec.json.Decoder(dict[str, msgspec.Raw])
_tensor = msgspec.json.Decoder(TensorInfo)
_metadata = msgspec.json.Decoder(dict[str, str])

_CODE = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes: it holds a pickle, which can run code"),
    (b"PK\x05\x06", "a zip archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
)
_OTHER = (
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a Git LFS pointer: the file itself was never fetched"),
)


def carries_code(start: bytes) -> str:
    """What a file is that begins like this and can run code when loaded, or an empty string."""
    if len(start) > 1 and start[0] == 0x80 and 2 <= start[1] <= 5:
        return "a pickle, which can run code"
    return next((what for magic, what in _CODE if start.startswith(magic)), "")


def read_header(path: Path, name: str = "") -> dict[str, TensorInfo]:
    """The tensors of a safetensors file by name. Raises ModelError, one sentence, for anything that is not sound.

    `name` is what the sentence calls the file. Opens nothing but `path`, reads no tensor.
    """
    name = name or path.name
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(24)
            length = _length(name, start, size)
            file.seek(8)
            head = file.read(length)
    except OSError as error:
        raise ModelError(f"{name} can't be read: {error.strerror}") from error
    return parse_header(head, size - 8 - length, name)


def _length(name: str, start: bytes, size: int) -> int:
    """The header's length, after a look at what the file is at all."""
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or length > MAX_HEADER_BYTES:
        kind = carries_code(start) or next((what for magic, what in _OTHER if start.startswith(magic)), "")
        if kind:
            raise ModelError(f"{name} is {kind}; we load safetensors only")
    if start[8:9] != b"{":
        raise ModelError(f"{name} is not a safetensors file")
    if length > MAX_HEADER_BYTES:
        raise ModelError(f"{name} announces a header of {length} bytes; at most {MAX_HEADER_BYTES} are read")
    if size > MAX_WEIGHT_BYTES:
        raise ModelError(f"{name} is larger than {MAX_WEIGHT_BYTES >> 30} GB")
    if 8 + length > size:
        raise ModelError(f"{name} is cut short: it ends inside its header")
    return length


def parse_header(head: bytes, data_bytes: int, name: str) -> dict[str, TensorInfo]:
    """The tensors that a header of JSON describes, given how many bytes follow it. Raises ModelError."""
    try:
        tables = _tables.decode(head)
        metadata = tables.pop("__metadata__", None)
        if metadata is not None:
            _metadata.decode(metadata)
        if len(tables) > MAX_TENSORS:
            raise ModelError(f"{name} lists more than {MAX_TENSORS} tensors")
        tensors = {key: _tensor.decode(table) for key, table in tables.items()}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ModelError(f"{name} has a broken header: {error}") from error
    _check_layout(tensors, data_bytes, name)
    return tensors


def _check_layout(tensors: dict[str, TensorInfo], data_bytes: int, name: str) -> None:
    """Every tensor has the bytes that its type and shape ask for; together they fill the file without a hole."""
    at = 0
    for key, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, end = tensor.data_offsets
        item = ITEM_BYTES.get(tensor.dtype)
        shown = ascii(key[:80])
        if item is None:
            raise ModelError(f"{name}: tensor {shown} has the unknown type {tensor.dtype[:16]!a}")
        if end - begin != item * math.prod(tensor.shape):
            raise ModelError(f"{name}: tensor {shown} has not the bytes that its shape needs")
        if begin != at:
            raise ModelError(f"{name}: tensor {shown} {'overlaps another' if begin < at else 'follows a hole'}")
        at = end
    if at != data_bytes:
        what = "is cut short" if at > data_bytes else "has bytes after its last tensor"
        raise ModelError(f"{name} {what}: its header describes {at} bytes of tensors, the file has {data_bytes}")
