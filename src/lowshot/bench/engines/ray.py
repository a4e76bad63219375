"""Runs on a Ray cluster: every machine of it does as many at a time as it has room for.

Each worker is a process that Ray keeps for as long as there are runs, so that what several runs read is read once for
each worker. Workers fetch a run when they have nothing to do, and send its record back: this process alone writes into
the folder of runs, which need not be on a disk that the others see. Where they see it, the state of training is kept
there, and a run whose worker is lost goes on from it on another; where they do not, it begins anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import logging
import os
import platform
import re
import secrets
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ...errors import InputError, MissingExtraError, RunError, first_line
from ...progress import Track
from ...records import provenance
from ...runs_folder import Claim
from ...threads import cpu_threads
from ..grid import Cell
from . import Result

LOSSES = 3
"""Workers that a run may lose before it counts as failed, and the others go on."""
PATIENCE_SECONDS = 60.0
"""Time for which a cluster may have no machine that is large enough, after it had one."""
_GLANCE_SECONDS = 0.2
_FAREWELL_SECONDS = 5.0
_KNOCK_SECONDS = 10.0
_OBJECT_STORE_BYTES = 100 << 20  # for records alone; Ray would take a third of the memory
_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"

_Item = TypeVar("_Item")


@dataclasses.dataclass(frozen=True)
class Room:
    """CPUs and GPUs that a run takes, or that a machine has."""

    cpus: int
    gpus: int

    def places(self, machines: Iterable[Room]) -> int:
        """Return how many such runs these machines do at the same time."""
        return sum(
            min(machine.cpus // self.cpus, machine.gpus // self.gpus if self.gpus else machine.cpus)
            for machine in machines
        )

    def __str__(self) -> str:
        cpus = f"{self.cpus} CPU{'s' * (self.cpus != 1)}"
        return f"{cpus} and {self.gpus} GPU{'s' * (self.gpus != 1)}" if self.gpus else cpus


@dataclasses.dataclass
class _Attempt:
    cell: Cell
    claim: Claim
    losses: int = 0


class RayEngine:
    """Runs as tasks of Ray: ``--threads`` CPUs for each, or one; and one GPU where the device is CUDA.

    A run whose worker is lost, because its machine went away or its memory ran out, is done again by another. An error
    of the run itself is not: that would come again.

    Args:
        address: ``HOST:PORT`` of a cluster that this machine is part of; ``auto`` for the one that was started here; if
            not given, this machine alone, with a Ray of its own that ends with the runs.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: ``address`` is no address.
    """

    def __init__(self, address: str | None = None) -> None:
        if importlib.util.find_spec("ray") is None:  # not imported: Ray reads its environment then, see _connected
            raise MissingExtraError("ray", "ray", "--engine ray")
        if address is not None and address != "auto" and not re.fullmatch(r"[^\s/]+:\d{1,5}", address):
            raise InputError(f"address is {address!r}; expected HOST:PORT of a Ray cluster, or auto")
        self.places = 1
        self._address = address

    def run(
        self, cells: Sequence[Cell], take: Callable[[Cell], Claim | None], say: Callable[[str], None], track: Track
    ) -> Generator[Result, None, None]:
        """See ``Engine.run``; progress within a run is not shown.

        Raises:
            InputError: There is no cluster at the address, or a run asks for more than any of its machines has.
            RunError: No worker can be started, or no machine that is large enough is left.
        """
        del track
        with _connected(self._address):
            machines = _machines()
            groups: dict[Room, list[Cell]] = {}
            for cell in cells:
                groups.setdefault(room_of(cell, machines), []).append(cell)
            for room, group in groups.items():
                self.places = room.places(machines)
                say(f"{len(group)} runs of {room} each, {self.places} at a time")
                crew = _Crew(room, deque(group), take, say)
                for result in crew.results():
                    self.places = max(1, room.places(_machines()))
                    yield result


def room_of(cell: Cell, machines: Sequence[Room]) -> Room:
    """Return the room that a run takes.

    Args:
        cell: The run.
        machines: The room of each machine of the cluster.

    Raises:
        InputError: It is more than any of them has, or the run asks for one GPU by its number.
    """
    device = cell.recipe.model.device
    if device.startswith("cuda:"):
        raise InputError(f"device is {device!r}; expected auto, cpu or cuda: which GPU it is Ray decides")
    on_gpu = device == "cuda" or (device == "auto" and any(machine.gpus for machine in machines))
    room = Room(cell.recipe.engine.threads or 1, int(on_gpu))
    if not room.places(machines):
        available = ", ".join(sorted({str(machine) for machine in machines})) or "nothing"
        raise InputError(
            f"{cell.label} asks for {room}; the machines of the Ray cluster have {available}: "
            "choose other --threads or another --device in the recipe, or add a machine"
        )
    return room


class _Crew:
    """The workers that do runs which take the same room."""

    def __init__(
        self, room: Room, cells: deque[Cell], take: Callable[[Cell], Claim | None], say: Callable[[str], None]
    ) -> None:
        self._room, self._cells, self._take, self._say = room, cells, take, say
        self._again: deque[_Attempt] = deque()
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, _Attempt | None]] = {}  # task -> worker, and its run unless it is starting
        self._failed_starts: list[str] = []  # why, since one succeeded
        self._command = provenance()["command"]

    def results(self) -> Iterator[Result]:
        """Do all runs; whatever ends the iterator ends the workers too."""
        import ray

        enough_until = time.monotonic() + PATIENCE_SECONDS
        try:
            while self._hand_out():
                places = self._hire()
                now = time.monotonic()
                if places or self._busy:
                    enough_until = now + PATIENCE_SECONDS
                elif now > enough_until:
                    raise RunError(f"no machine of the Ray cluster has {self._room} any more; add one and start again")
                ended, _ = ray.wait(list(self._busy), timeout=0) if self._busy else ([], [])
                if not ended:  # sleeping in Ray would make SIGTERM a Ctrl-C
                    time.sleep(_GLANCE_SECONDS)
                for task in ended:
                    result = self._result(task)
                    if result is not None:
                        yield result
        except BaseException:
            self._interrupt()
            raise
        finally:
            for worker in (*self._idle, *(worker for worker, _ in self._busy.values())):
                ray.kill(worker)

    def _hand_out(self) -> bool:
        """Give whoever has nothing to do a run; False once there is none left, nor under way."""
        while self._idle and (self._again or self._cells):
            if self._again:
                attempt = self._again.popleft()
            else:
                cell = self._cells.popleft()
                if (claim := self._take(cell)) is None:
                    continue
                attempt = _Attempt(cell, claim)
            worker = self._idle.pop()
            self._busy[worker.do.remote(attempt.cell, attempt.claim)] = worker, attempt
        return bool(self._cells or self._again or any(attempt for _, attempt in self._busy.values()))

    def _hire(self) -> int:
        """Start workers where there is room and work for them; return how many runs have room at the same time.

        After a few in a row that could not be started there are no further ones: whoever is there does the runs.
        """
        import ray

        places = self._room.places(_machines())
        hired = len(self._idle) + len(self._busy)
        if len(self._failed_starts) >= LOSSES:
            if not hired:
                raise RunError(f"no worker can be started on the Ray cluster: {self._failed_starts[-1]}")
            return places
        starting = sum(attempt is None for _, attempt in self._busy.values())
        for _ in range(min(places - hired, len(self._cells) + len(self._again) - starting)):
            kind = ray.remote(num_cpus=self._room.cpus, num_gpus=self._room.gpus, max_restarts=0)(_Worker)
            worker = kind.remote(self._room, Path.cwd(), _version())
            self._busy[worker.greet.remote()] = worker, None
        return places

    def _result(self, task: Any) -> Result | None:
        """Return the result of a task; None where it was a worker's start, or is to be done again."""
        import ray

        worker, attempt = self._busy.pop(task)
        try:
            result: Result = ray.get(task)
        except ray.exceptions.RayError as error:
            ray.kill(worker)
            reason = " ".join(str(error).split())
            if attempt is None:
                self._failed_starts.append(reason)
                self._say(f"a worker could not be started: {reason}")
                return None
            attempt.losses += 1
            if attempt.losses < LOSSES:
                self._say(f"{attempt.cell.label}: its worker was lost, another does the run again: {reason}")
                self._again.append(attempt)
                return None
            failure = (
                f"{attempt.losses} workers were lost that did this run: a machine that goes away ends them so, and one "
                f"whose memory runs out (see memory_budget and image_memory). Ray says of the last: {reason}"
            )
            return Result(attempt.cell, None, 0.0, failure, failure)
        self._idle.append(worker)
        if attempt is None:
            self._failed_starts.clear()
            return None
        if result.record is None:
            return result
        here = {**result.record.provenance, "command": self._command}
        return dataclasses.replace(result, record=dataclasses.replace(result.record, provenance=here))

    def _interrupt(self) -> None:
        """Have runs that are under way keep their state; a worker that has not done so in a few seconds is ended."""
        import ray

        at_work = [(task, worker) for task, (worker, attempt) in self._busy.items() if attempt is not None]
        for task, _ in at_work:
            ray.cancel(task)
        answers = [worker.greet.remote() for _, worker in at_work]  # comes once the run has ended
        if answers:
            ray.wait(answers, num_returns=len(answers), timeout=_FAREWELL_SECONDS)


class _Worker:
    """Does runs one after the other, in a process that Ray has started.

    Args:
        room: Of the process.
        folder: The driver's working folder; paths in recipes are relative to it.
        version: Of the driver's lowshot.
    """

    def __init__(self, room: Room, folder: Path, version: str) -> None:
        if version != _version():
            raise RunError(f"{platform.node()} has lowshot {_version()}; expected {version}, as where the grid is run")
        if not room.gpus:
            os.environ[_VISIBLE_GPUS] = ""  # those of the machine belong to others
        if folder.is_dir():
            os.chdir(folder)
        from ..worker import Worker

        self._threads, self._worker = room.cpus, Worker()

    def greet(self) -> None:
        """Answer once the process is there, and has nothing to do."""

    def do(self, cell: Cell, claim: Claim) -> Result | None:
        """Do one run; None where it was interrupted: its state is kept, and nobody waits for an answer."""
        try:
            with cpu_threads(self._threads):
                return self._worker.do(cell, claim.state_seen_here(), _until_cancelled)
        except KeyboardInterrupt:
            return None


def _until_cancelled(items: Iterable[_Item], /, *, what: str, total: int) -> Iterator[_Item]:  # noqa: ARG001
    """End a run as if Ctrl-C had been pressed, by its ``Track``: Ray cannot do so to a worker that it keeps."""
    import ray

    context = ray.get_runtime_context()
    for item in items:
        if context.is_canceled():
            raise KeyboardInterrupt
        yield item


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Be part of a cluster, or start one on this machine alone.

    Ray listens on all of a machine's addresses: a cluster of our own is open only to who has its token, which only this
    process and its workers know.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is not None and address != "auto":  # where nothing listens Ray would try for minutes
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), _KNOCK_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise InputError(_no_cluster(address, error)) from error
    if address is None:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    import ray
    from ray._private import worker as driver

    on_termination, printer = signal.getsignal(signal.SIGTERM), driver.print_to_stdstream
    # Ray would print pages from its logs onto standard output for each machine that is lost.
    driver.print_to_stdstream = lambda *_, **__: None
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        try:
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **(own if address is None else {}),
            )
        finally:
            if threading.current_thread() is threading.main_thread():
                # Ray leaves the process at once on SIGTERM, over whatever would keep its state.
                signal.signal(signal.SIGTERM, on_termination)
        yield
    except (ConnectionError, ValueError, TimeoutError) as error:
        if ray.is_initialized():
            raise
        raise InputError(_no_cluster(address, error)) from error
    finally:
        ray.shutdown()
        driver.print_to_stdstream = printer


def _no_cluster(address: str | None, error: Exception) -> str:
    place = "on this machine" if address in (None, "auto") else f"at {address}"
    return f"no Ray cluster {place}: {first_line(error)}; expected one that this machine is part of (ray start --help)"


def _machines() -> list[Room]:
    """Return the room of each machine of the cluster."""
    import ray

    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Room(int(machine.get("CPU", 0)), int(machine.get("GPU", 0))) for machine in resources]


def _version() -> str:
    return importlib.metadata.version("lowshot")
