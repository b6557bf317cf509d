"""Load on one HTTP service, from a process of its own: connections that are kept, bytes by hand.

    python benchmarks/serving_load.py PORT PATH BODIES CONCURRENCY REQUESTS

Each line of BODIES is the JSON of one request; they are sent in turn, as callers send other rows.
Prints one JSON object: requests per second and quantiles of the time of a request in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import uvloop


async def caller(port: int, turn: Iterator[bytes], count: int, taken: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(count):
        sent = next(turn)
        start = time.perf_counter()
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"no answer: {head!r}")
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            while (size := int(await reader.readline(), 16)) > 0:
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
        else:
            length = lower.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        taken.append(time.perf_counter() - start)
    writer.close()


async def load(port: int, path: str, bodies: list[bytes], concurrency: int, requests: int) -> dict:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    )
    turn = cycle([f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies])
    taken: list[float] = []
    start = time.perf_counter()
    share = requests // concurrency
    await asyncio.gather(*(caller(port, turn, share, taken) for _ in range(concurrency)))
    seconds = time.perf_counter() - start
    taken.sort()
    return {
        "requests": len(taken),
        "per_second": round(len(taken) / seconds),
        "p50_ms": round(taken[len(taken) // 2] * 1000, 3),
        "p99_ms": round(taken[int(len(taken) * 0.99)] * 1000, 3),
    }


if __name__ == "__main__":
    port, path, file, concurrency, requests = sys.argv[1:]
    bodies = Path(file).read_bytes().splitlines()
    print(json.dumps(uvloop.run(load(int(port), path, bodies, int(concurrency), int(requests)))))
