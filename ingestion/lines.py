"""Many small texts as lines of one buffer, without a Python loop over lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclass(frozen=True)
class Lines:
    """Lines (line ends kept) that lie end to end in `buffer`; of each its `file`, its `number` there (from 1) and its end."""

    buffer: bytes
    ends: npt.NDArray[np.int64]
    file: npt.NDArray[np.int32]
    number: npt.NDArray[np.int32]
    file_ends: npt.NDArray[np.int64]
    """Where each file ends in the buffer that all lines came from."""

    @property
    def bytes(self) -> npt.NDArray[np.uint8]:
        """The buffer as numbers."""
        return np.frombuffer(self.buffer, dtype=np.uint8)

    def at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Index of the line that holds each position."""
        return np.searchsorted(self.ends, positions, side="right")

    def file_at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Number of the file that holds each position of the whole buffer."""
        return np.searchsorted(self.file_ends, positions, side="right")

    def text(self) -> pa.Array:
        """The lines as one Arrow column that points into the buffer; they must be UTF-8."""
        offsets = np.concatenate(([0], self.ends)).astype(np.int64)
        return pa.Array.from_buffers(pa.large_utf8(), len(self.ends), [None, pa.py_buffer(offsets), pa.py_buffer(self.buffer)])

    def where(self, wanted: npt.NDArray[np.bool_]) -> Lines:
        """Those lines alone, laid end to end again."""
        if wanted.all():
            return self
        starts = np.concatenate(([0], self.ends[:-1]))
        # neighbours are copied together: few pieces where few lines go
        change = np.flatnonzero(np.diff(wanted.astype(np.int8), prepend=0, append=0))
        view = memoryview(self.buffer)
        pieces = [view[a:b] for a, b in zip(starts[change[::2]].tolist(), self.ends[change[1::2] - 1].tolist(), strict=True)]
        ends = np.cumsum((self.ends - starts)[wanted])
        return Lines(b"".join(pieces), ends, self.file[wanted], self.number[wanted], self.file_ends)


def lines_of(contents: Sequence[bytes]) -> Lines:
    """All lines of the texts; a last line without an end gets one."""
    buffer = b"".join([c if c.endswith(b"\n") else c + b"\n" for c in contents])
    sizes = np.fromiter((len(c) + (not c.endswith(b"\n")) for c in contents), dtype=np.int64, count=len(contents))
    file_ends = np.cumsum(sizes)
    ends = np.flatnonzero(np.frombuffer(buffer, dtype=np.uint8) == ord("\n")) + 1
    last = np.searchsorted(ends, file_ends, side="right")  # lines up to and with each file
    counts = np.diff(last, prepend=0)
    file = np.repeat(np.arange(len(contents), dtype=np.int32), counts)
    number = (np.arange(len(ends)) - np.repeat(last - counts, counts) + 1).astype(np.int32)
    return Lines(buffer, ends, file, number, file_ends)
