"""NDJSON files, plain or gzip, as chunks of lines; memory is bounded whatever the file holds."""

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple, cast

from ingest.errors import FoundWrong

CHUNK_BYTES = 256 * 1024
# Neither can begin a line of JSON, so a first byte decides; a pipe may not have given more yet.
GZIP, UTF16 = b"\x1f", (b"\xff", b"\xfe")
UTF8_MARK = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """One line of a file, as a record that is about to be published."""

    value: bytes
    file: str
    number: int
    topic: str = ""
    key: bytes | None = None
    partition: int = 0
    timestamp: int = -1
    timestamp_type: int = 0
    headers: Sequence[tuple[str, bytes | None]] = ()

    @property
    def offset(self) -> int:
        return self.number

    @property
    def where(self) -> str:
        return f"{self.file}:{self.number}"


def chunks(stream: IO[bytes] | io.RawIOBase, name: str, longest: int) -> Iterator[list[Line]]:
    """The lines of a file, in the portions in which they arrive; blank ones are left out.

    A line longer than `longest` bytes is cut there, which leaves it too long still. Raises
    FoundWrong for a damaged gzip file, after the lines before the damage, and for UTF-16.
    """
    reader = io.BufferedReader(stream, CHUNK_BYTES) if isinstance(stream, io.RawIOBase) else stream
    first = reader.peek(1)[:1]  # type: ignore[attr-defined]
    if first in UTF16 and first:
        raise FoundWrong(f"{name}: this is UTF-16 text: save it as UTF-8")
    if first == GZIP:
        reader = cast(IO[bytes], gzip.GzipFile(fileobj=reader))
    number, rest = 1, b""
    for piece in _pieces(reader, name):
        whole, newline, rest = (rest + piece).rpartition(b"\n")
        if newline:
            found = whole.split(b"\n")
            yield [*_lines(found, name, number, longest)]
            number += len(found)
        # What stays behind is cut as well: a file without a newline must not fill the memory.
        rest = rest[: longest + 2]
    yield [*_lines([rest], name, number, longest)]


def _pieces(reader: IO[bytes], name: str) -> Iterator[bytes]:
    try:
        while piece := reader.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
            yield piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FoundWrong(f"{name}: damaged gzip: {error}") from None
    except OSError as error:
        raise FoundWrong(f"{name}: {error.strerror}") from None


def _lines(found: Sequence[bytes], name: str, number: int, longest: int) -> Iterator[Line]:
    for at, text in enumerate(found, number):
        value = text[:-1] if text.endswith(b"\r") else text
        if value and not value.isspace():
            yield Line(value[: longest + 1], name, at)
