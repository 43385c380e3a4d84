"""The process that opens foreign formats, so that what a native library does to it is an outcome of one delivery. Started by `apart`.

Requests come pickled by way of stdin (from our own parent, and from nobody else); answers are lines of JSON, rows Parquet files. It ends with its
parent: a thread waits on stdin.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import resource
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import IO, Any

import duckdb

from ingestion import readers
from ingestion.cast import literal
from ingestion.contract import Contract
from ingestion.model import Delivery

_RETIRES_AT = 0.5
"""Share of the memory allowed from which on the process ends by itself after a request: what it once took it does not give back."""


def _answer(out: IO[bytes], **said: Any) -> None:
    out.write(json.dumps(said, ensure_ascii=True).encode() + b"\n")
    out.flush()


def _requests(source: IO[bytes], into: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            into.put(pickle.load(source))  # our parent wrote it
    finally:  # the parent is gone, or this process has no memory left for what it wants
        os._exit(0)


def _place(error: BaseException) -> str:
    """Type and place of an error, without its text: that may hold what stands in the file."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else type(error).__name__


def _address_space() -> int:
    """Bytes of address space that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _duck(extensions: str, scratch: Path, memory: int) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        config={
            "threads": 1,
            "memory_limit": f"{memory // 4 >> 20}MiB",
            "temp_directory": str(scratch),
            "extension_directory": extensions,
            "autoinstall_known_extensions": "false",
            "preserve_insertion_order": "false",
        }
    )


def main() -> None:
    """Serves requests until stdin ends. Arguments: bytes of memory that reading may take, bytes of a file, scratch folder, DuckDB's extensions."""
    memory, largest = int(sys.argv[1]), int(sys.argv[2])
    scratch, extensions = Path(sys.argv[3]), sys.argv[4]
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    tempfile.tempdir = str(scratch)
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_requests, args=(sys.stdin.buffer, waiting), daemon=True).start()
    con = _duck(extensions, scratch, memory)
    ready: set[str] = set()
    number = 0
    while True:
        contract, deliveries, seconds = waiting.get()
        assert isinstance(contract, Contract)
        number += 1
        at = {d.delivery_id: i for i, d in enumerate(deliveries)}

        def begin(delivery: Delivery, at: dict[str, int] = at, seconds: dict[str, int] = seconds) -> None:
            # the clock of the processor starts again with each delivery; it ends the process where the parent cannot
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + seconds[delivery.delivery_id] + 1, resource.RLIM_INFINITY))
            _answer(out, at=at[delivery.delivery_id])

        readers.begin = begin
        try:
            read = readers.reader_of(contract)
            if contract.format.reader not in ready:
                if contract.format.reader == "vector":
                    con.execute("LOAD spatial")
                ready.add(contract.format.reader)
                # libraries take gigabytes of address space and use little of it: the limit is on what reading adds
                resource.setrlimit(resource.RLIMIT_AS, (_address_space() + memory, resource.RLIM_INFINITY))
            found = read(con, contract, deliveries, "cut")
            rows = scratch / f"rows-{number}.parquet"
            con.execute(f"COPY cut TO {literal(str(rows))} (FORMAT parquet)")
            con.execute("DROP TABLE cut")
            problems = {i: [p.code, p.what, p.expected, p.found, p.todo] for i, p in found.items()}
            retires = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > memory * _RETIRES_AT
            _answer(out, rows=str(rows), problems=problems, retires=retires)
            if retires:
                os._exit(0)
        except BaseException as error:  # a panic of a Rust library is no Exception
            limit = isinstance(error, MemoryError | duckdb.OutOfMemoryException) or not isinstance(error, Exception)
            _answer(out, failed=_place(error), limit=limit, trace="".join(traceback.format_tb(error.__traceback__)))
            os._exit(0)  # in which state a library is after that, nobody knows: it may wait for ever on its way out


if __name__ == "__main__":
    main()
