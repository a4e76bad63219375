"""Teaching while serving: one job at a time, each in a process of its own (``lowshot.teaching``).

A job's folder lies in ``.teaching`` inside the bank's folder, on the same disk, where the bank does not look. What was
learnt becomes an adapter by one rename. Whatever happens before that, and whatever is left of a server that was killed,
is only in ``.teaching``, which the next server empties.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from filelock import lock_descriptor

from ..errors import OutputError, RunError
from ..files import canonical_json, sync, write_text
from .limits import Limits
from .refusals import Busy, Draining, Refusal

FOLDER = ".teaching"
"""Inside the bank's folder: jobs, and what is being removed."""
State = Literal["queued", "running", "done", "failed", "cancelled"]
PROGRAM = ("-m", "lowshot.teaching")
"""Arguments with which Python runs a job, before the job's folder."""
JOB_FILE = "job.json"
"""The job in its folder: name, model, settings, images."""
ADAPTER_FOLDER = "adapter"
"""The finished adapter in a job's folder."""
_LOCK_FILE = "lock"
_SECONDS_TO_END = 5.0


@dataclasses.dataclass
class Job:
    """One classifier that is to be taught."""

    id: str
    name: str
    """Name of the adapter that it will become."""
    folder: Path
    state: State = "queued"
    message: str = "waiting"
    """Its work at this moment, or why it failed."""
    step: int = 0
    """Steps done and in all, of that work."""
    steps: int = 0
    loss: float | None = None
    """Last known loss of training."""
    adapter: str | None = None
    """Its name, once it is there."""
    notes: tuple[str, ...] = ()
    """What a person should know of its images, and of what was learnt."""
    started: float | None = None
    """Time at which it began to run, by the monotonic clock,"""
    ended: float | None = None
    """and at which it was over."""
    process: asyncio.subprocess.Process | None = None

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.state in ("done", "failed", "cancelled")

    def to_dict(self) -> dict[str, Any]:
        """The job as clients are told of it."""
        fields = ("id", "name", "state", "step", "steps", "loss", "message", "adapter")
        seconds = 0.0 if self.started is None else (self.ended or time.monotonic()) - self.started
        values = {field: getattr(self, field) for field in fields}
        return {**values, "notes": list(self.notes), "seconds": round(seconds, 1)}

    def end(self, state: State, message: str) -> None:
        """Close the books: it is over."""
        self.state, self.message, self.ended = state, message, time.monotonic()

    async def stop(self) -> None:
        """End its process, if that runs."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _SECONDS_TO_END)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Workshop:
    """The folder in which jobs work; one server at a time holds it.

    Args:
        bank: Folder of the adapters.

    Raises:
        OutputError: Another server teaches here, or the folder cannot be written.
    """

    def __init__(self, bank: Path) -> None:
        self.bank = bank
        self.path = bank / FOLDER
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
            is_ours = lock_descriptor(self._lock, blocking=False)
        except OSError as error:
            raise OutputError(
                f"folder {bank} cannot be written: {error.strerror or error}; serve it with --no-teach"
            ) from error
        if not is_ours:
            os.close(self._lock)
            raise OutputError(
                f"another lowshot serve teaches in {bank}; stop it, choose another folder, or serve with --no-teach"
            )
        self._empty()

    def publish(self, folder: Path, name: str) -> None:
        """Make a finished folder one of the bank's adapters, which appears as a whole, unless its name is taken."""
        target = self.bank / name
        try:
            if target.exists() or target.is_symlink():
                raise OutputError(f"adapter {name} already exists in {self.bank}; choose another name")
            folder.rename(target)
            sync(self.bank)
        except OSError as error:
            raise OutputError(f"adapter {name} cannot be written: {error.strerror or error}") from error

    def remove(self, name: str) -> None:
        """Remove an adapter: it is gone as a whole, then its files are.

        Raises:
            FileNotFoundError: There is none.
            OutputError: It cannot be removed.
        """
        target = self.bank / name
        try:
            if target.is_symlink():
                target.unlink()
                return
            aside = self.path / secrets.token_hex(8)
            target.rename(aside)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise OutputError(f"adapter {name} cannot be removed: {error.strerror or error}") from error
        shutil.rmtree(aside, ignore_errors=True)

    def close(self) -> None:
        """Leave nothing, and let another server have it."""
        self._empty()
        os.close(self._lock)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.path)

    def _empty(self) -> None:
        for path in self.path.iterdir():
            if path.name != _LOCK_FILE:
                shutil.rmtree(path, ignore_errors=True)


class Teaching:
    """Runs jobs, one after the other. Everything is called on the event loop.

    Args:
        workshop: Where they work.
        limits: How many may wait, and how long one may take.
        announce: Called with the name of each new adapter.
    """

    def __init__(self, workshop: Workshop, limits: Limits, announce: Callable[[str], Awaitable[None]]) -> None:
        self.workshop = workshop
        self._limits = limits
        self._announce = announce
        self._jobs: dict[str, Job] = {}
        self._reserved: set[str] = set()
        self._wake = asyncio.Event()
        self._closing = False
        self._runner: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run jobs."""
        self._runner = asyncio.get_running_loop().create_task(self._run())

    @property
    def jobs(self) -> list[Job]:
        """Jobs that wait, run, or have ended not long ago; oldest first."""
        return list(self._jobs.values())

    def job(self, number: str) -> Job:
        """The job of a number; refused where there is none."""
        if number not in self._jobs:
            raise Refusal(404, "unknown_job", f"there is no job {number[:40]!r}; GET /v1/jobs lists them")
        return self._jobs[number]

    @contextlib.contextmanager
    def place(self, name: str) -> Iterator[Path]:
        """Hold a name and a place in the queue while images are looked at, if both are free; yields a folder."""
        if self._closing:
            raise Draining
        names = self._reserved | {job.name for job in self.jobs if not job.is_over}
        if name in names or os.path.lexists(self.workshop.bank / name):
            raise Refusal(409, "name_taken", f"there is an adapter {name!r} already; choose another name, or delete it")
        waiting = len(names)
        if waiting > self._limits.jobs_waiting:
            raise Busy(f"{waiting} classifiers are being taught or wait for it, and no more may", seconds=10.0)
        self._reserved.add(name)
        folder = self.workshop.path / secrets.token_hex(8)
        folder.mkdir()
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._reserved.discard(name)

    def add(self, folder: Path, name: str, task: Mapping[str, Any]) -> Job:
        """Queue a job.

        Args:
            folder: The one that ``place`` gave.
            name: Name of the adapter.
            task: Its ``model``, the id of the backbone; ``images``, each one's ``file`` in the folder and its
                ``class``; and the ``settings`` of the recipe, or the ``change`` of another adapter.
        """
        write_text(folder / JOB_FILE, canonical_json({"name": name, **task}))
        job = self._jobs[folder.name] = Job(folder.name, name, folder)
        over = [other.id for other in self.jobs if other.is_over]
        for number in over[: -self._limits.jobs_remembered or None]:
            del self._jobs[number]
        self._wake.set()
        return job

    async def cancel(self, job: Job) -> None:
        """End a job that is not over; what it had learnt is lost."""
        is_publishing = job.process is not None and job.process.returncode is not None
        if job.is_over or is_publishing:
            state = "done" if is_publishing else job.state
            raise Refusal(409, "job_over", f"job {job.id} is {state}; only one that waits or runs can be cancelled")
        job.end("cancelled", "cancelled")
        await job.stop()
        shutil.rmtree(job.folder, ignore_errors=True)

    async def close(self) -> None:
        """Cancel what waits and runs, and leave nothing half-written."""
        self._closing = True
        for job in self.jobs:
            if not job.is_over:
                job.end("cancelled", "the server stopped")
                await job.stop()
        self._wake.set()
        if self._runner is not None:
            await self._runner
        await asyncio.to_thread(self.workshop.close)

    async def _run(self) -> None:
        while not self._closing:
            job = next((job for job in self.jobs if job.state == "queued"), None)
            if job is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                await self._teach(job)
            except (OutputError, RunError) as error:
                job.end("failed", str(error))
            except Exception as error:
                job.end("failed", f"teaching failed: {error}")
            finally:
                await job.stop()
                await asyncio.to_thread(shutil.rmtree, job.folder, ignore_errors=True)

    async def _teach(self, job: Job) -> None:
        """Run a job from its process's begin to its adapter's place in the bank; any failure is raised."""
        job.state, job.started, job.message = "running", time.monotonic(), "starting"
        threads = max(1, (os.cpu_count() or 2) // 2)  # whoever asks for predictions has the others
        job.process = await asyncio.create_subprocess_exec(
            *(sys.executable, *PROGRAM, str(job.folder)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,  # Ctrl-C on a terminal is for the server, which then ends this
        )
        if job.is_over:  # cancelled while the process began
            await job.stop()
        try:
            error = await asyncio.wait_for(self._follow(job), self._limits.teaching_seconds)
        except asyncio.TimeoutError:
            await job.stop()
            error = f"given up after {self._limits.teaching_seconds:g} s"
        status = await job.process.wait()
        if job.is_over:
            return
        if status and not error:
            error = f"the process that taught ended with status {status}"
            if os.name != "nt" and status == -signal.SIGKILL:
                error += ": it was killed, as the system does where memory runs out; teach with fewer images or a "
                error += "smaller model"
        if error:
            raise RunError(error)
        await asyncio.to_thread(self.workshop.publish, job.folder / ADAPTER_FOLDER, job.name)
        await self._announce(job.name)
        job.adapter = job.name
        job.end("done", "done")

    async def _follow(self, job: Job) -> str:
        """Note a process's progress until it ends; returns its error, if it reported one."""
        assert job.process is not None and job.process.stdout is not None
        error = ""
        async for line in job.process.stdout:
            try:
                report = json.loads(line)
            except ValueError:  # something that a library printed
                continue
            if not isinstance(report, dict):
                continue
            error = report.get("error", error)
            job.notes = tuple(report.get("notes", job.notes))
            if "what" in report and not job.is_over:
                job.message = report["what"]
                job.step, job.steps = report.get("step", 0), report.get("steps", 0)
                job.loss = report.get("loss", job.loss)
        return error
