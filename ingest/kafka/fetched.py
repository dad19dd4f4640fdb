"""Records as a fetch brings them: light ones, and whatever the names of their headers are.

aiokafka makes records that take 1.6 times as long as these, and raises where a header's name is no
UTF-8. Brokers take such a name, so that the client would never get past that record. Where its quick
reader fails, the rest of the fetch is read by its slow one, with U+FFFD for what is wrong in a name;
keys and values stay as they are.
"""

from types import FunctionType, MethodType
from typing import Any

from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy
from msgspec import Struct


class Fetched(Struct, gc=False):
    """A record with what `ingest.record.Record` asks for and no more."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class AnyName(bytearray):
    """Bytes whose slices are decoded whatever they are."""

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return AnyName(part) if isinstance(key, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


class SlowBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """The client's reader in Python, names decoded leniently."""

    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = AnyName(self._buffer)


class SlowRecords(_MemoryRecordsPy):  # type: ignore[misc]
    """The batches that reach beyond an offset."""

    def __init__(self, data: bytes, offset: int) -> None:
        super().__init__(data)
        while self.has_next() and self._batch().next_offset <= offset:
            self._cache_next()

    def next_batch(self, *defaults: Any) -> Any:
        batch = self._batch()
        self._cache_next()
        return batch

    def _batch(self) -> Any:
        """The batch at hand. Only the present format has headers, so no other ever gets here."""
        return SlowBatch(self._next_slice)


class QuickRecords(MemoryRecords):  # type: ignore[misc]
    """The client's reader in C, with its bytes kept at hand."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class FetchedRecords(PartitionRecords):  # type: ignore[misc]
    """Records of one partition of a fetch, read quickly for as long as that works."""

    _records: Any
    _records_iterator: Any

    def __next__(self) -> Fetched:
        try:
            record: Fetched = next(self._records_iterator)
        except StopIteration:
            self._records_iterator = None
            raise
        except UnicodeDecodeError:
            self._records = SlowRecords(self._records.data, self.next_fetch_offset)
            self._records_iterator = self._unpack_records()
            record = next(self._records_iterator)
        return record

    def _consumer_record(self, partition: tuple[str, int], record: Any) -> Fetched:
        return Fetched(
            partition[0], partition[1], record.offset, record.timestamp, record.timestamp_type,
            record.key, record.value, record.headers,
        )  # fmt: skip


def adopt(consumer: Any) -> None:
    """Have a started consumer, and no other of this process, read so."""
    fetcher = consumer._fetcher
    handle = type(fetcher)._proc_fetch_request
    names = {**handle.__globals__, "MemoryRecords": QuickRecords, "PartitionRecords": FetchedRecords}
    fetcher._proc_fetch_request = MethodType(FunctionType(handle.__code__, names), fetcher)
