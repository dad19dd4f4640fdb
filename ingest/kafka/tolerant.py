"""Header names that are no UTF-8. Brokers take them; aiokafka raises, and would never get past the record.

Where its quick reader fails, the rest of the fetched batches is read by its slow one, with U+FFFD in
place of what is wrong in a name. Keys and values stay as they are.
"""

from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy


class AnyName(bytearray):
    """Bytes whose slices are decoded whatever they are."""

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return AnyName(part) if isinstance(key, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


class SlowBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = AnyName(self._buffer)


class SlowRecords(_MemoryRecordsPy):  # type: ignore[misc]
    """The batches that reach beyond an offset."""

    def __init__(self, data: bytes, offset: int) -> None:
        super().__init__(data)
        while self._next_slice is not None and self._batch().next_offset <= offset:
            self._cache_next()

    def next_batch(self, *defaults: Any) -> Any:
        batch = self._batch()
        self._cache_next()
        return batch

    def _batch(self) -> Any:
        """The batch at hand. Only the present format has headers, so no other ever gets here."""
        return SlowBatch(self._next_slice)


class QuickRecords(MemoryRecords):  # type: ignore[misc]
    """The quick reader, with its bytes kept at hand."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class AnyRecords(PartitionRecords):  # type: ignore[misc]
    """Records of one partition of a fetch, read quickly for as long as that works."""

    def __next__(self) -> Any:
        try:
            return next(self._records_iterator)
        except StopIteration:
            self._records_iterator = None
            raise
        except UnicodeDecodeError:
            self._records = SlowRecords(self._records.data, self.next_fetch_offset)
            self._records_iterator = self._unpack_records()
            return next(self._records_iterator)


def tolerate() -> None:
    """Have every consumer of this process read so."""
    fetcher.MemoryRecords, fetcher.PartitionRecords = QuickRecords, AnyRecords
