"""Many clients at once: does ``lowshot serve`` answer all of them, how fast, and does its memory stay what it is?

    .venv/bin/python benchmarks/load.py [--json] [--smoke] [--clients 200] [--seconds 60]

A server in a process of its own, of LoRA-XS adapters of the built-in model (rank 16, random numbers). Each client holds
one connection, asks a random adapter about one image of a built-in task, waits for the answer, and asks again; told
that the server is busy (429), it waits as long as it is told. The clients share the machine with the server, so their
own work is in the figures. Two rows: a quiet one with one client, for what one request takes by itself, and the load.
Prints a table and writes benchmarks/results/<date>-<hardware>-load.json.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import io
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Output, finish
from PIL import Image

_BOUNDARY = "lowshot"
_IMAGES = 64
_SAMPLES = 20  # of the server's memory


@dataclasses.dataclass(frozen=True)
class Arguments(Output):
    """Load, and its duration."""

    clients: int = 200
    adapters: int = 100
    seconds: float = 60.0
    quiet_seconds: float = 5.0
    """Seconds of the one client before."""
    threads: int | None = None
    """Threads of the server."""

    def __post_init__(self) -> None:
        if self.smoke:
            for name, value in {"clients": 8, "adapters": 3, "seconds": 1.0, "quiet_seconds": 0.5}.items():
                object.__setattr__(self, name, value)


@dataclasses.dataclass
class Seen:
    """Answers that the clients got."""

    statuses: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """Answers by status; ``broken`` counts connections that ended without one."""
    seconds: list[float] = dataclasses.field(default_factory=list)
    """From a request to its answer, of those answered with 200."""


@contextlib.contextmanager
def server(folder: Path, threads: int | None) -> Iterator[int]:
    """``lowshot serve`` in a process of its own; its port."""
    command = [sys.executable, "-m", "lowshot", "serve", str(folder), "--port", "0", "--no-teach"]
    command += [] if threads is None else ["--threads", str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("serving"):
                raise SystemExit(f"the server did not start: {line}")
            yield int(line.split(" at ")[1].split()[0].rsplit(":", 1)[1].strip("/"))
        finally:
            process.terminate()
            process.wait(60)


def requests(names: Sequence[str]) -> list[bytes]:
    """One request for each adapter and image, as it goes over the wire."""
    from lowshot.data import builtin_task

    task = builtin_task("digits")
    assert task.test is not None
    images = []
    for row in range(_IMAGES):
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(task.test.images[row])).save(buffer, "PNG")
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{row}.png"\r\n\r\n'
        body = head.encode() + buffer.getvalue() + f"\r\n--{_BOUNDARY}--\r\n".encode()
        for name in names:
            lines = [
                f"POST /v1/adapters/{name}/predict HTTP/1.1",
                "Host: localhost",
                f"Content-Type: multipart/form-data; boundary={_BOUNDARY}",
                f"Content-Length: {len(body)}",
            ]
            images.append("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return images


async def client(port: int, asked: Sequence[bytes], seed: int, until: float, seen: Seen) -> None:
    """Ask one thing after the other over one connection; over a new one where it ends."""
    choose = random.Random(seed)
    while time.perf_counter() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            seen.statuses["broken"] += 1
            await asyncio.sleep(0.1)
            continue
        with contextlib.closing(writer):
            with contextlib.suppress(EOFError):
                while time.perf_counter() < until:
                    started = time.perf_counter()
                    writer.write(choose.choice(asked))
                    status, headers = await answer(reader)
                    seen.statuses[status] += 1
                    if status == "200":
                        seen.seconds.append(time.perf_counter() - started)
                    await asyncio.sleep(float(headers.get("retry-after", 0)))
                continue
            seen.statuses["broken"] += 1


async def warmed(port: int, asked: Sequence[bytes]) -> None:
    """Ask each adapter once, so that it is in memory."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        for request in asked:
            writer.write(request)
            await answer(reader)


async def answer(reader: asyncio.StreamReader) -> tuple[str, Mapping[str, str]]:
    """Status and headers of one answer, whose body is read and dropped.

    Raises:
        EOFError: The connection ended first.
    """
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        await reader.readexactly(int(headers["content-length"]))
    except (OSError, asyncio.IncompleteReadError) as error:
        raise EOFError from error
    return head[0].split()[1], headers


async def loaded(port: int, asked: Sequence[bytes], clients: int, seconds: float) -> tuple[Seen, list[int]]:
    """All clients at once; what they saw, and the server's resident memory from begin to end, bytes."""
    seen, memory, until = Seen(), [], time.perf_counter() + seconds
    work = [asyncio.create_task(client(port, asked, seed, until, seen)) for seed in range(clients)]
    for _ in range(_SAMPLES):
        await asyncio.sleep(seconds / _SAMPLES)
        memory.append(await asyncio.to_thread(resident_bytes, port))
    await asyncio.gather(*work)
    return seen, memory


def resident_bytes(port: int) -> int:
    """Memory of the server by its own account."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
        lines = response.read().decode().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("process_resident_memory_bytes ")))


def row_of(variant: str, clients: int, seconds: float, seen: Seen, memory: Sequence[int]) -> dict[str, Any]:
    """One row of the result. Memory grows from the second quarter to the last: the first one fills what is kept."""
    quarter = len(memory) // 4
    p50, p95, p99 = (float(np.percentile(seen.seconds, share)) if seen.seconds else 0.0 for share in (50, 95, 99))
    return {
        "variant": variant,
        "clients": clients,
        "seconds": seconds,
        "statuses": dict(sorted(seen.statuses.items())),
        "answers_per_second": len(seen.seconds) / seconds,
        "p50_seconds": p50,
        "p95_seconds": p95,
        "p99_seconds": p99,
        "max_seconds": max(seen.seconds, default=0.0),
        "resident_bytes": list(memory),
        "growth_bytes": max(memory[-quarter:]) - max(memory[quarter : 2 * quarter]),
        "faults": sum(count for status, count in seen.statuses.items() if status not in ("200", "429")),
    }


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, print, write; returns the result."""
    import serving

    adapters = serving.Arguments(smoke=True, device="cpu")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        serving.write_adapters(adapters, serving.learner_of(adapters, "builtin"), folder, arguments.adapters)
        names = [path.name for path in sorted(folder.iterdir())]
        asked = requests(names)
        with server(folder, arguments.threads) as port:
            asyncio.run(warmed(port, asked[: len(names)]))
            for variant, clients, seconds in (
                ("one-client", 1, arguments.quiet_seconds),
                ("all-clients", arguments.clients, arguments.seconds),
            ):
                row = row_of(variant, clients, seconds, *asyncio.run(loaded(port, asked, clients, seconds)))
                rows.append(row)
                arguments.say(line(row))
    return finish({"benchmark": "load", "adapters": arguments.adapters, "device": "cpu", "rows": rows}, arguments)


def line(row: Mapping[str, Any]) -> str:
    """A row of the table."""
    times = "  ".join(f"{name} {1000 * row[f'{name}_seconds']:.0f} ms" for name in ("p50", "p95", "p99"))
    memory = f"{row['resident_bytes'][-1] / 1e6:.0f} MB, growth {row['growth_bytes'] / 1e6:+.1f}"
    rate = f"{row['answers_per_second']:7.1f} a second"
    return f"{row['variant']:<12} {row['clients']:>4} clients  {rate}  {times}  {memory}  {row['statuses']}"


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))
