"""What stands behind the HTTP interface: the bank, the line in front of the model, the teaching, the figures."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import LowshotError
from .answerer import Answerer, BackboneAnswer, Neighbours, Query, Reply, nearest
from .bank import AdapterBank
from .batcher import Batcher
from .entries import NAME, is_gone, stamp_of
from .examples import Example, read_examples
from .jobs import Teaching
from .limits import Limits
from .predictions import Prediction, Summary
from .prometheus import Metrics
from .refusals import Refusal, refusal_of

_DECODING_THREADS = 2
_ROWS_AT_ONCE = 8  # of what nobody waits for, so that it holds up nobody


@dataclasses.dataclass(frozen=True)
class Options:
    """What is asked besides the classes."""

    top: int = 5
    """Classes to name."""
    zero_shot: bool = False
    """What the backbone as it is says, too."""
    neighbours: int = 0
    """Most similar pictures of those that the adapter was taught with."""


class Service:
    """All that a server does, without HTTP.

    Args:
        bank: The adapters.
        model_id: Where its backbone is, for what is taught.
        limits: How much is taken on.
        demo: Whether it was started to be tried out.
    """

    def __init__(self, bank: AdapterBank, model_id: str, limits: Limits, *, demo: bool = False) -> None:
        self.bank = bank
        self.limits = limits
        self.model_id = model_id
        self.demo = demo
        self.metrics = Metrics()
        self.teaching: Teaching | None = None
        self.draining = False
        self._answerer = Answerer(bank)
        self._batcher: Batcher[Tensor, Query, Reply] = Batcher(
            self._answerer.answers,
            batch_images=limits.batch_images,
            batch_seconds=limits.batch_milliseconds / 1000,
            capacity=limits.images_waiting,
            observe=self.metrics.batch,
        )
        self._decoding = ThreadPoolExecutor(_DECODING_THREADS, thread_name_prefix="decoding")
        self._neighbours = Neighbours()
        self._listing = threading.Lock()
        self._background: set[asyncio.Task[Any]] = set()
        self._warming: dict[str, asyncio.Task[None]] = {}

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that can be taught here: some of what the bank can serve."""
        return ("lora-xs", "lora", "zero-shot")

    async def predict(self, name: str, contents: Sequence[bytes | Refusal], options: Options) -> dict[str, Any]:
        """What an adapter says of images.

        Args:
            name: The adapter.
            contents: The images' files; or why there is none, which is the answer for that image.
            options: What else is asked.

        Raises:
            Refusal: There is no such adapter, no image can be used, or there is no room.
        """
        started = time.perf_counter()
        await self._check_there(name)
        to_backbone = options.zero_shot or options.neighbours > 0
        with self._batcher.reserved(len(contents) * (1 + to_backbone)):
            crops = await asyncio.gather(*(self._crop(content, place) for place, content in enumerate(contents)))
            usable = [crop for crop in crops if not isinstance(crop, Refusal)]
            rows = [(crop, Query(name)) for crop in usable]
            rows += [(crop, Query(name, to_backbone=True)) for crop in usable if to_backbone]
            found = await self._batcher.predict(rows)
        _raise_common(found)
        said, plain = iter(found[: len(usable)]), iter(found[len(usable) :])
        pictures = await self._pictures(name) if options.neighbours else None
        answers = []
        for crop in crops:
            if isinstance(crop, Refusal):
                answers.append(crop.body)
            else:
                answers.append(_answer(name, next(said), next(plain, None), options, pictures))
        refused = sum("error" in answer for answer in answers)
        self.metrics.images(answered=len(answers) - refused, refused=refused)
        milliseconds = round((time.perf_counter() - started) * 1000, 2)
        answer = {"adapter": name, "predictions": answers, "milliseconds": milliseconds}
        if refused == len(answers):
            first = answers[0]["error"]
            raise Refusal(422, first["code"], first["message"], more=answer)
        return answer

    async def check_image(self, content: bytes, place: int) -> None:
        """Say whether an image can be learnt from.

        Raises:
            Refusal: It cannot.
        """
        crop = await self._crop(content, place)
        if isinstance(crop, Refusal):
            raise crop

    def adapters(self) -> dict[str, Any]:
        """All adapters, in a few words each. Reads the disk."""
        with self._listing:  # one at a time: the second finds nothing new
            self.bank.refresh()
            lines = [line_of(summary) for summary in self.bank.summaries()]
        refused = [{"name": name, "reason": reason} for name, reason in self.bank.refused().items()]
        return {"adapters": lines, "refused": refused}

    def adapter(self, name: str) -> dict[str, Any]:
        """One adapter. Reads the disk.

        Raises:
            UnknownNameError: There is none of this name.
            AdapterError: It is refused.
        """
        described = self.bank.describe(name)
        record = described.record
        figures = ("task", "steps", "train_seconds", "final_loss", "peak_memory_bytes", "seed", "stopped")
        metrics = {key: value for key, value in record.metrics.items() if isinstance(value, int | float | str)}
        examples = read_examples(self.bank.folder / name)
        return {
            **line_of(described.summary),
            "class_names": list(record.classes),
            "prompts": [list(said) for said in record.prompts],
            "temperature": described.temperature,
            "notes": list(described.notes),
            "record": {**{figure: getattr(record, figure) for figure in figures}, "metrics": metrics},
            "examples": [{"id": e.id, "class": e.class_name, "url": example_url(name, e)} for e in examples],
        }

    def example(self, name: str, number: str) -> Example:
        """One picture of an adapter.

        Raises:
            UnknownNameError: There is no such adapter.
            Refusal: It has no such picture.
        """
        self.bank.describe(name)
        for example in read_examples(self.bank.folder / name):
            if example.id == number and example.path.is_file():
                return example
        raise Refusal(404, "unknown_example", f"adapter {name!r} has no picture {number[:40]!r}")

    @property
    def base_settings(self) -> dict[str, Any]:
        """What every adapter that is taught here must have, to be served by this bank."""
        return {"quantize": self.bank.quantize, "precision": self.bank.precision}

    @property
    def teacher(self) -> Teaching:
        """What teaches here.

        Raises:
            Refusal: Nothing is taught here.
        """
        if self.teaching is None:
            raise Refusal(403, "read_only", "this server does not teach: it was started with --no-teach")
        return self.teaching

    async def remove(self, name: str) -> None:
        """Remove an adapter from the disk, a refused one too.

        Raises:
            Refusal: There is none of this name, or nothing is changed here.
        """
        teacher = self.teacher
        if not NAME.fullmatch(name) or is_gone(stamp_of(self.bank.folder / name)):
            await self._check_there(name)
        try:
            await asyncio.to_thread(teacher.workshop.remove, name)
            await asyncio.to_thread(self.bank.refresh)
        except FileNotFoundError:
            raise Refusal(404, "unknown_name", f"adapter {name!r} is gone already") from None
        except LowshotError as error:
            raise refusal_of(error) from None

    async def published(self, name: str) -> None:
        """A new adapter is there: list it, and look at its pictures before anyone asks."""
        await asyncio.to_thread(self.bank.refresh)
        self._look_at_pictures(name)

    def gauges(self) -> dict[str, float]:
        """What the server is at now."""
        served, refused = len(self.bank.names()), len(self.bank.refused())
        jobs = [] if self.teaching is None else self.teaching.jobs
        states = ("queued", "running", "done", "failed", "cancelled")
        return {
            'adapters{state="served"}': served,
            'adapters{state="refused"}': refused,
            "adapters_in_memory": len(self.bank.resident()),
            "adapter_memory_bytes": self.bank.used_bytes,
            "images_waiting": self._batcher.waiting,
            "draining": self.draining,
            **{f'jobs{{state="{state}"}}': sum(job.state == state for job in jobs) for state in states},
        }

    async def close(self) -> None:
        """Finish what waits, end what is being taught."""
        self.draining = True
        if self.teaching is not None:
            await self.teaching.close()
        for task in list(self._background):
            task.cancel()
        await asyncio.to_thread(self._batcher.close, self.limits.drain_seconds)
        self._decoding.shutdown(wait=False, cancel_futures=True)

    async def _check_there(self, name: str) -> None:
        """Say that there is no such adapter before any image is decoded.

        Raises:
            Refusal: There is none.
        """
        if NAME.fullmatch(name) and not is_gone(stamp_of(self.bank.folder / name)):
            return
        try:
            await asyncio.to_thread(self.bank.describe, name)
        except LowshotError as error:
            raise refusal_of(error) from None

    async def _crop(self, content: bytes | Refusal, place: int) -> Tensor | Refusal:
        if isinstance(content, Refusal):
            return content
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoding, self._answerer.crop, content)
        except LowshotError as error:
            refusal = refusal_of(error)
            said = refusal.message.removeprefix("image ")
            return Refusal(refusal.status, refusal.code, f"images[{place}] {said}")

    async def _pictures(self, name: str) -> tuple[list[Example], NDArray[np.float32]] | None:
        """The pictures of an adapter and their embeddings ``(N, D)``; None where it has none."""
        examples = await asyncio.to_thread(read_examples, self.bank.folder / name)
        if not examples:
            return None
        key = self._key(name)
        if self._neighbours.known(key) is None:
            await asyncio.shield(self._look_at_pictures(name))
        embeddings = self._neighbours.known(key)
        return None if embeddings is None or len(embeddings) != len(examples) else (examples, embeddings)

    def _key(self, name: str) -> tuple[str, object]:
        return name, stamp_of(self.bank.folder / name)

    def _look_at_pictures(self, name: str) -> asyncio.Task[None]:
        """Compute the embeddings of an adapter's pictures, once for all who wait for them."""
        if name not in self._warming:
            task = self._warming[name] = asyncio.get_running_loop().create_task(self._embed_pictures(name))
            self._background.add(task)
            task.add_done_callback(self._background.discard)
            task.add_done_callback(lambda _: self._warming.pop(name, None))
        return self._warming[name]

    async def _embed_pictures(self, name: str) -> None:
        key, examples = self._key(name), await asyncio.to_thread(read_examples, self.bank.folder / name)
        found: list[NDArray[np.float32]] = []
        for start in range(0, len(examples), _ROWS_AT_ONCE):
            contents = await asyncio.to_thread(_read_all, examples[start : start + _ROWS_AT_ONCE])
            crops = await asyncio.gather(*(self._crop(content, 0) for content in contents))
            rows = [(crop, Query(name, to_backbone=True)) for crop in crops if not isinstance(crop, Refusal)]
            answers = await self._batcher.predict(rows)
            found += [answer.embedding for answer in answers if isinstance(answer, BackboneAnswer)]
        if found and len(found) == len(examples):
            self._neighbours.keep(key, np.stack(found))


def line_of(summary: Summary) -> dict[str, Any]:
    """An adapter in a few words."""
    return {
        "name": summary.name,
        "method": summary.method,
        "classes": summary.classes,
        "shots": summary.shots,
        "rank": summary.rank,
        "bytes": summary.adapter_bytes,
        "trainable_parameters": summary.trainable_parameters,
        "created": summary.created,
        "calibrated": summary.is_calibrated,
        "accuracy": summary.accuracy,
    }


def example_url(name: str, example: Example) -> str:
    """Where a picture is."""
    return f"/v1/adapters/{name}/examples/{example.id}"


def _read_all(examples: Sequence[Example]) -> list[bytes]:
    found = []
    for example in examples:
        try:
            found.append(example.path.read_bytes())
        except OSError:  # removed meanwhile: it is no image then
            found.append(b"")
    return found


def _raise_common(found: Sequence[Reply]) -> None:
    """An adapter that is not there, or refused, is the answer to the whole request.

    Raises:
        Refusal: Nothing was found for any row.
    """
    errors = [answer for answer in found if isinstance(answer, LowshotError)]
    if errors and len(errors) == len(found):
        refusal = refusal_of(errors[0])
        raise refusal


def _answer(
    name: str,
    said: Reply,
    plain: Reply | None,
    options: Options,
    pictures: tuple[list[Example], NDArray[np.float32]] | None,
) -> dict[str, Any]:
    """What is said of one image."""
    if not isinstance(said, Prediction):
        assert isinstance(said, LowshotError)
        return refusal_of(said).body
    answer: dict[str, Any] = {"classes": _most_probable(said, options.top)}
    if isinstance(plain, BackboneAnswer):
        if options.zero_shot:
            answer["zero_shot"] = _most_probable(plain.zero_shot, options.top)
        if pictures is not None:
            examples, embeddings = pictures
            answer["neighbours"] = [
                {
                    "id": examples[place].id,
                    "class": examples[place].class_name,
                    "similarity": round(similarity, 4),
                    "url": example_url(name, examples[place]),
                }
                for place, similarity in nearest(plain.embedding, embeddings, options.neighbours)
            ]
    return answer


def _most_probable(said: Prediction, top: int) -> list[dict[str, Any]]:
    order = np.argsort(-said.probabilities, kind="stable")[:top]
    return [{"name": said.classes[place], "probability": float(said.probabilities[place])} for place in order]
