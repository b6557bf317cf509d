"""The process in which a model is measured.

``python -m loopline.line.measuring FOLDER SECONDS WAY``

It holds one release and nothing of the line. With the way ``http`` the release is served by
``loopline serve`` in a process of its own, as it will be, and this one asks it; with ``python`` it
is called here. One JSON object is printed on the output.
"""

from __future__ import annotations

import io
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from loopline.errors import LooplineError

ROUNDS = 5
FEWEST_CALLS = 20
"""Calls of a round, however slow the model is."""
SINGLE_ROWS = 50
"""Rows that are asked for one by one, again and again."""
STATUS = "/proc/{}/status"
ENERGY_PATTERN = "intel-rapl:[0-9]*/energy_uj"
PATIENCE_SECONDS = 300.0


def energy_meters() -> list[Path]:
    """The counters of energy of this machine's processor packages that can be read."""
    found = Path("/sys/class/powercap").glob(ENERGY_PATTERN)
    return [path for path in sorted(found) if _readable(path)]


def _readable(path: Path) -> bool:
    try:
        path.read_text(encoding="ascii")
    except OSError:
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """Measure the release in a folder for about so many seconds."""
    folder, seconds, way = Path(arguments[0]), float(arguments[1]), arguments[2]
    print(json.dumps(measure(folder, seconds, way)))
    return 0


def measure(folder: Path, seconds: float, way: str) -> dict[str, Any]:
    """Latencies in seconds, rows a second, bytes, joules for 1,000 rows or None.

    Args:
        folder: holds a release in ``release`` and rows to answer in ``rows.parquet``.
        seconds: how long to measure, half of it single rows.
        way: "http" or "python".
    """
    batch = pl.read_parquet(folder / "rows.parquet")
    opened = _served(folder) if way == "http" else _called(folder)
    with opened as (process, one, many):
        rows = [call for call in map(one, batch[:SINGLE_ROWS].iter_slices(1)) if _answers(call)]
        if not rows:
            raise RuntimeError("No row of the training data was answered.")
        before = _joules()
        rounds = [_round(rows, seconds / (2 * ROUNDS)) for _ in range(ROUNDS)]
        after = _joules()
        throughput = _throughput(many(batch), batch.height, seconds / 2)
        memory = _peak_memory(process)
    calls = sum(len(times) for times in rounds)
    return {
        "latency_p50": _median([_quantile(times, 0.5) for times in rounds]),
        "latency_p95": max(_quantile(times, 0.95) for times in rounds),
        "latency_p99": max(_quantile(times, 0.99) for times in rounds),
        "throughput": throughput,
        "memory": memory,
        "energy": None if before is None or after is None else (after - before) / calls * 1000,
        "path": way,
        "num_calls": calls,
    }


Call = Callable[[], Any]
Opened = tuple[int | None, Callable[[pl.DataFrame], Call], Callable[[pl.DataFrame], Call]]
"""The answering process (None for this one), what makes a call of a row and one of a table."""


@contextmanager
def _called(folder: Path) -> Iterator[Opened]:
    from loopline.release.bundle import load_release

    release = load_release(folder / "release")
    yield (
        None,
        lambda row: partial(release.predict_one, row.row(0, named=True)),
        lambda frame: partial(release.predict_frame, frame),
    )


@contextmanager
def _served(folder: Path) -> Iterator[Opened]:
    command = [sys.executable, "-m", "loopline", "serve", str(folder / "release")]
    command += ["--port", "0", "--no-log", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            first = server.stdout.readline()
            if not first:
                raise RuntimeError("The service did not start.")
            started = json.loads(first)
            line = _Line(started["url"])
            yield server.pid, line.row, line.table
            line.close()
        finally:
            server.terminate()


class _RefusedError(Exception):
    """The service answered, but not with a prediction."""


class _Line:
    """One kept connection to a service on this machine."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self._host = f"{host}:{port}"
        self._socket = socket.create_connection((host, int(port)), PATIENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def row(self, row: pl.DataFrame) -> Call:
        """What asks for one row: as JSON, or as Arrow where it holds bytes."""
        return self._asking(row, alone=True)

    def table(self, frame: pl.DataFrame) -> Call:
        """What asks for a table, in the same way."""
        return self._asking(frame, alone=False)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _asking(self, frame: pl.DataFrame, *, alone: bool) -> Call:
        import orjson

        if any(kind.base_type() is pl.Binary for kind in frame.dtypes):
            content, kind = io.BytesIO(), "application/vnd.apache.arrow.stream"
            frame.write_ipc_stream(content)
            body = content.getvalue()
        else:
            seconds = frame.with_columns(pl.selectors.duration().dt.total_microseconds() / 1e6)
            rows = seconds.to_dicts()
            body, kind = orjson.dumps(rows[0] if alone else rows), "application/json"
        head = (
            f"POST /predict HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        return partial(self._ask, head + body)

    def _ask(self, request: bytes) -> None:
        self._socket.sendall(request)
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += self._some()
        head, _, body = bytes(received).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise _RefusedError(f"The service answered {head[:60]!r} {body[:300]!r}")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-len")]
        missing = int(lengths[0].partition(b":")[2]) - len(body)
        while missing > 0:
            missing -= len(self._some())

    def _some(self) -> bytes:
        part = self._socket.recv(1 << 20)
        if not part:
            raise RuntimeError("The service closed the connection.")
        return part


def _answers(call: Call) -> bool:
    """Whether a row is answered; one that alone breaks the contract (a damaged picture) is not."""
    try:
        call()
    except (LooplineError, _RefusedError):
        return False
    return True


def _round(calls: Sequence[Call], seconds: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    number = 0
    while number < FEWEST_CALLS or time.perf_counter() < end:
        call = calls[number % len(calls)]
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
        number += 1
    return times


def _throughput(call: Call, num_rows: int, seconds: float) -> float:
    call()
    done, began = 0, time.perf_counter()
    while not done or time.perf_counter() - began < seconds:
        call()
        done += num_rows
    return float(done / (time.perf_counter() - began))


def _peak_memory(process: int | None) -> int:
    """Bytes resident at the peak, of that process alone.

    Linux carries what `getrusage` tells over from the process that started this one.
    """
    status = Path(STATUS.format("self" if process is None else process))
    if status.is_file():
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _quantile(times: Sequence[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _joules() -> float | None:
    """What the packages have used so far; None where the machine does not tell."""
    meters = energy_meters()
    if not meters:
        return None
    return sum(int(path.read_text(encoding="ascii")) for path in meters) / 1e6


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
