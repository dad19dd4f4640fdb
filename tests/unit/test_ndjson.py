import gzip
import io
import tracemalloc
from collections.abc import Iterable
from typing import cast

import pytest

from ingest.errors import FoundWrong
from ingest.publish.ndjson import Line, chunks


class Pipe(io.RawIOBase):
    """Gives what it was told to, in those portions, and then the end."""

    def __init__(self, portions: Iterable[bytes]) -> None:
        self.portions = list(portions)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = cast(bytearray, buffer)
        portion = self.portions.pop(0) if self.portions else b""
        target[: len(portion)] = portion
        return len(portion)


def read(content: bytes, longest: int = 1_000) -> list[tuple[int, bytes]]:
    stream = cast(io.BufferedReader, io.BytesIO(content))
    buffered = io.BufferedReader(cast(io.RawIOBase, stream))
    return [(line.number, line.value) for chunk in chunks(buffered, "f", longest) for line in chunk]


def test_each_line_comes_with_its_number_and_its_bytes_as_they_were() -> None:
    assert read(b'{"a": 1 }\n {"b":2}\n{"c":3}') == [(1, b'{"a": 1 }'), (2, b' {"b":2}'), (3, b'{"c":3}')]


def test_blank_lines_are_skipped_but_counted_and_windows_line_ends_are_no_part_of_a_line() -> None:
    assert read(b"\r\n{}\r\n\n  \t\n{}\n\n") == [(2, b"{}"), (5, b"{}")]


def test_a_file_without_a_byte_holds_no_line() -> None:
    assert read(b"") == []


def test_gzip_is_recognised_by_its_first_byte_and_may_have_several_members() -> None:
    assert read(gzip.compress(b"1\n2\n") + gzip.compress(b"3\n")) == [(1, b"1"), (2, b"2"), (3, b"3")]


def test_a_truncated_gzip_file_gives_the_lines_before_the_damage_and_then_names_it() -> None:
    content = gzip.compress(b"".join(b'{"n":%d}\n' % n for n in range(200_000)))
    found: list[Line] = []
    stream = io.BufferedReader(cast(io.RawIOBase, io.BytesIO(content[: len(content) // 2])))
    with pytest.raises(FoundWrong, match="f: damaged gzip"):
        found.extend(line for chunk in chunks(stream, "f", 1_000) for line in chunk)
    assert [line.value for line in found[:2]] == [b'{"n":0}', b'{"n":1}']


def test_what_only_begins_like_gzip_is_damaged_gzip() -> None:
    with pytest.raises(FoundWrong, match="damaged gzip"):
        read(b"\x1f{}")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_named_as_such(encoding: str) -> None:
    mark = "\ufeff".encode(encoding)
    with pytest.raises(FoundWrong, match="UTF-16"):
        read(mark + "{}\n".encode(encoding))


def test_a_line_that_is_too_long_is_cut_and_still_too_long() -> None:
    assert read(b"x" * 600_000 + b"\n{}\n", longest=100) == [(1, b"x" * 101), (2, b"{}")]


def test_a_file_of_one_endless_line_is_not_kept_in_memory() -> None:
    tracemalloc.start()
    pipe = Pipe([b"y" * 65_536] * 200)
    lines = [line for chunk in chunks(pipe, "f", 100) for line in chunk]
    assert [len(line.value) for line in lines] == [101]
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_lines_of_a_pipe_are_there_as_soon_as_they_have_arrived() -> None:
    pipe = Pipe([b'{"a":', b"1}\n{", b"}\n", b"rest"])
    portions = chunks(pipe, "-", 100)
    assert [line.value for line in next(portions)] == [b'{"a":1}']
    assert pipe.portions == [b"}\n", b"rest"]
    assert [[line.value for line in chunk] for chunk in portions] == [[b"{}"], [b"rest"]]


def test_a_line_knows_where_it_stands() -> None:
    assert Line(b"", "events.ndjson", 7).where == "events.ndjson:7"
