"""The server without HTTP: the bank, the line in front of the model, the teaching, the figures."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import LowshotError
from ..explaining import Explanation, coloured
from ..methods import AUTO, METHODS
from .answerer import Answerer, BackboneAnswer, Query, Reply
from .bank import AdapterBank
from .batcher import Batcher
from .decoder import Decoder
from .entries import NAME, is_gone, stamp_of
from .examples import Example, read_examples
from .jobs import Job, Teaching, Workshop
from .limits import Limits
from .neighbours import Neighbours, Pictures
from .predictions import Prediction, Summary
from .prometheus import Metrics
from .refusals import Refusal, refusal_of


@dataclasses.dataclass(frozen=True)
class Options:
    """Wishes of a request besides the classes."""

    top: int = 5
    """Classes to name."""
    zero_shot: bool = False
    """Whether the answer of the backbone as it is goes along."""
    neighbours: int = 0
    """Most similar pictures of those that the adapter was taught with."""


class Service:
    """All that a server does, without HTTP.

    Args:
        bank: The adapters.
        limits: Sizes, numbers and times.
        workshop: The folder in which adapters are taught; None for a server that only reads.
        demo: Whether it was started to be tried out.
    """

    def __init__(self, bank: AdapterBank, limits: Limits, *, workshop: Workshop | None, demo: bool = False) -> None:
        self.bank = bank
        self.limits = limits
        self.model_id = bank.backbone.identity.id
        self.demo = demo
        self.metrics = Metrics()
        self.draining = False
        self.teaching = None if workshop is None else Teaching(workshop, limits, self.list_new)
        self._answerer = Answerer(bank)
        self._batcher: Batcher[Tensor, Query, Reply] = Batcher(
            self._answerer.replies,
            batch_images=limits.batch_images,
            batch_seconds=limits.batch_milliseconds / 1000,
            capacity=limits.images_waiting,
            observe=self.metrics.batch,
        )
        self._decoder = Decoder(self._answerer.crop, limits)
        self._neighbours = Neighbours(bank.folder, self._embeddings)
        self._listing = threading.Lock()

    @property
    def reads_names(self) -> bool:
        """Whether a text tower reads class names, and no encoder is beside it."""
        return self.bank.backbone.has_text and not self.bank.backbone.beside

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods that can be taught here: the smallest adapters first, which is the default, and ``auto`` last.

        Where no text tower reads class names, or an encoder is beside it, they are all that can do without.
        """
        names = [name for name, row in METHODS.items() if row.taught]
        if not self.reads_names:
            backbone = self.bank.backbone
            has_blocks = backbone.depths["vision"] > 0 and not backbone.beside
            able = {name: row for name, row in METHODS.items() if row.is_without_text(has_blocks=has_blocks)}
            names = [name for name, row in able.items() if row.taught or row.kind == "features"]
        return (*reversed([name for name in names if name != AUTO]), AUTO)

    async def predict(self, name: str, contents: Sequence[bytes | Refusal], options: Options) -> dict[str, Any]:
        """Answer about images by an adapter.

        Args:
            name: The adapter.
            contents: The images' files; or why there is none, which is the answer for that image.
            options: Wishes besides the classes.

        Raises:
            LowshotError: There is no such adapter, or it is refused.
            Refusal: No image can be used, or there is no room.
        """
        started = time.perf_counter()
        await self._check_there(name)
        # Before the images: there may be no room for an adapter's own pictures, which would lose the answer about them.
        pictures = await self._neighbours.pictures(name) if options.neighbours else None
        queries = [Query(name)]
        if options.zero_shot or options.neighbours:
            queries.append(Query(name, to_backbone=True))

        def body(prediction: Reply, backbone_reply: Reply | None) -> dict[str, Any]:
            assert isinstance(prediction, Prediction)
            return _image_answer(prediction, backbone_reply, options, pictures)

        answers = await self._answers(contents, queries, body)
        return _answer(name, "predictions", answers, started)

    async def embed(self, name: str, contents: Sequence[bytes | Refusal]) -> dict[str, Any]:
        """Answer with embeddings of images by the vision tower, with what an adapter learnt in it.

        Args:
            name: The adapter.
            contents: As for ``predict``.

        Raises:
            LowshotError: There is no such adapter, or it is refused.
            Refusal: No image can be used, or there is no room.
        """
        started = time.perf_counter()
        await self._check_there(name)

        def body(prediction: Reply, _: Reply | None) -> dict[str, Any]:
            assert isinstance(prediction, Prediction)
            # The shortest numbers that are these ones in float32: half the bytes of those that are in float64.
            return {"embedding": [float(str(number)) for number in prediction.embedding]}

        return _answer(name, "embeddings", await self._answers(contents, [Query(name)], body), started)

    async def explain(self, name: str, contents: Sequence[bytes | Refusal], class_name: str | None) -> dict[str, Any]:
        """Answer with which parts of images spoke for a class of an adapter.

        Args:
            name: The adapter.
            contents: As for ``predict``.
            class_name: The class that is asked about; of each image the most probable one if not given.

        Raises:
            LowshotError: There is no such adapter or class, it is refused, or its model cannot be explained.
            Refusal: No image can be used, or there is no room.
        """
        started = time.perf_counter()
        await self._check_there(name)
        query = Query(name, explained=True, class_name=class_name)
        answers = await self._answers(contents, [query], lambda explanation, _: {"explanation": explanation})
        drawn = [asyncio.to_thread(_explained, answer) for answer in answers]
        return _answer(name, "explanations", await asyncio.gather(*drawn), started)

    async def _answers(
        self,
        contents: Sequence[bytes | Refusal],
        queries: Sequence[Query],
        body: Callable[[Reply, Reply | None], dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """The answer about each image, or the error that befell it alone.

        Args:
            contents: The images' files, or why there is none.
            queries: About each image: to the adapter, and maybe to the backbone.
            body: Makes an answer of the adapter's reply and the backbone's.
        """
        with self._batcher.reserved(len(contents) * len(queries)):
            crops = await self._crops(contents)
            usable = [crop for crop in crops if not isinstance(crop, Refusal)]
            replies = await self._batcher.predict([(crop, query) for query in queries for crop in usable])
        errors = [reply for reply in replies if isinstance(reply, LowshotError)]
        if errors and len(errors) == len(replies):
            raise errors[0]  # an adapter that is gone, or refused, is the answer to the whole request
        adapter_replies, backbone_replies = iter(replies[: len(usable)]), iter(replies[len(usable) :])
        answers: list[dict[str, Any]] = []
        for crop in crops:
            if isinstance(crop, Refusal):
                answers.append(crop.body)
                continue
            reply, backbone_reply = next(adapter_replies), next(backbone_replies, None)
            if isinstance(reply, LowshotError):
                answers.append(refusal_of(reply).body)
            else:
                answers.append(body(reply, backbone_reply))
        refused = sum("error" in answer for answer in answers)
        self.metrics.images(answered=len(answers) - refused, refused=refused)
        return answers

    async def usable_image(self, content: bytes | Refusal, place: int) -> bytes:
        """The file of an image that can be learnt from; any other is refused."""
        [crop] = await self._crops([content], first=place)
        if isinstance(crop, Refusal):
            raise crop
        assert isinstance(content, bytes)
        return content

    def adapters(self) -> dict[str, Any]:
        """All adapters, in a few words each. Reads the disk."""
        with self._listing:  # one at a time: the second has no news to read
            self.bank.refresh()
            lines = [_line(summary) for summary in self.bank.summaries()]
        refused = [{"name": name, "reason": reason} for name, reason in self.bank.refused().items()]
        return {"adapters": lines, "refused": refused}

    def adapter(self, name: str) -> dict[str, Any]:
        """One adapter with its classes, figures and pictures. Reads the disk."""
        description = self.bank.describe(name)
        record = description.record
        fields = ("task", "steps", "train_seconds", "final_loss", "peak_memory_bytes", "seed", "stopped")
        metrics = {key: value for key, value in record.metrics.items() if isinstance(value, int | float | str)}
        return {
            **_line(description.summary),
            "class_names": list(record.classes),
            "prompts": [list(prompts) for prompts in record.prompts],
            "temperature": description.temperature,
            "reject": record.belonging.get("reject"),
            "notes": list(description.notes),
            "record": {**{field: getattr(record, field) for field in fields}, "metrics": metrics},
            "examples": [_picture(name, example) for example in read_examples(self.bank.folder / name)],
        }

    def example(self, name: str, number: str) -> Example:
        """One picture of an adapter."""
        self.bank.describe(name)
        for example in read_examples(self.bank.folder / name):
            if example.id == number and example.path.is_file():
                return example
        raise Refusal(404, "unknown_example", f"adapter {name!r} has no picture {number[:40]!r}")

    @property
    def teacher(self) -> Teaching:
        """The teaching; refused where nothing is taught."""
        if self.teaching is None:
            raise Refusal(403, "read_only", "this server does not teach: it was started with --no-teach")
        return self.teaching

    @property
    def jobs(self) -> list[Job]:
        """Jobs that wait, run, or have ended not long ago."""
        return [] if self.teaching is None else self.teaching.jobs

    async def remove(self, name: str) -> None:
        """Remove an adapter from the disk, a refused one too."""
        teacher = self.teacher
        await self._check_there(name)
        try:
            await asyncio.to_thread(teacher.workshop.remove, name)
        except FileNotFoundError:
            raise Refusal(404, "unknown_name", f"adapter {name!r} is gone already") from None
        await asyncio.to_thread(self.bank.refresh)

    def gauges(self) -> dict[str, float]:
        """Figures of the server at this moment."""
        states = ("queued", "running", "done", "failed", "cancelled")
        return {
            'adapters{state="served"}': len(self.bank.names()),
            'adapters{state="refused"}': len(self.bank.refused()),
            "adapters_in_memory": len(self.bank.resident()),
            "adapter_memory_bytes": self.bank.used_bytes,
            "images_waiting": self._batcher.waiting,
            "pixels_in_flight": self._decoder.pixels,
            "draining": self.draining,
            **{f'jobs{{state="{state}"}}': sum(job.state == state for job in self.jobs) for state in states},
        }

    def drain(self) -> None:
        """Take no more work; what there is will be finished."""
        self.draining = True

    async def close(self) -> None:
        """Finish what waits, end what is being taught."""
        self.drain()
        if self.teaching is not None:
            await self.teaching.close()
        self._neighbours.close()
        await asyncio.to_thread(self._batcher.close, self.limits.drain_seconds)
        self._decoder.close()

    async def list_new(self, name: str) -> None:
        """List a new adapter, and look at its pictures before anyone asks."""
        await asyncio.to_thread(self.bank.refresh)
        self._neighbours.prepare(name)

    async def _check_there(self, name: str) -> None:
        """Refuse a name without an adapter before any image is decoded."""
        if not NAME.fullmatch(name) or is_gone(stamp_of(self.bank.folder / name)):
            await asyncio.to_thread(self.bank.describe, name)

    async def _crops(self, contents: Sequence[bytes | Refusal], first: int = 0) -> list[Tensor | Refusal]:
        """Crops of a request's images, numbered from ``first``; the reason in the place of one that has none."""
        decoded = iter(await self._decoder.crops([content for content in contents if isinstance(content, bytes)]))
        crops: list[Tensor | Refusal] = []
        for place, content in enumerate(contents, first):
            crop = content if isinstance(content, Refusal) else next(decoded)
            if isinstance(crop, LowshotError):
                crop = refusal_of(crop)
            if isinstance(crop, Refusal) and crop is not content:
                crop = Refusal(crop.status, crop.code, f"images[{place}] {crop.message.removeprefix('image ')}")
            crops.append(crop)
        return crops

    async def _embeddings(self, name: str, contents: Sequence[bytes]) -> list[NDArray[np.float32]]:
        """Unit embeddings ``(D,)`` of image files by the backbone as it is, without those that cannot be used."""
        crops = await self._crops(contents)
        query = Query(name, to_backbone=True)
        replies = await self._batcher.predict([(crop, query) for crop in crops if not isinstance(crop, Refusal)])
        return [reply.embedding for reply in replies if isinstance(reply, BackboneAnswer)]


def _answer(name: str, field: str, answers: list[dict[str, Any]], started: float) -> dict[str, Any]:
    """The answer to a request; refused where every image of it is."""
    answer = {"adapter": name, field: answers, "milliseconds": round((time.perf_counter() - started) * 1000, 2)}
    if all("error" in each for each in answers):
        first = answers[0]["error"]
        raise Refusal(422, first["code"], first["message"], more=answer)
    return answer


def _explained(answer: dict[str, Any]) -> dict[str, Any]:
    """An explanation as clients get it; an error as it is."""
    if "explanation" not in answer:
        return answer
    explanation: Explanation = answer["explanation"]
    file = io.BytesIO()
    coloured(explanation).save(file, "PNG")
    return {
        "name": explanation.class_name,
        "probability": explanation.probability,
        "relevance": [[round(share, 6) for share in row] for row in explanation.relevance.tolist()],
        "picture": base64.b64encode(file.getvalue()).decode("ascii"),
    }


def _line(summary: Summary) -> dict[str, Any]:
    """An adapter in a few words, under the names that clients know."""
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
        "held_out": None if summary.held_out is None else dataclasses.asdict(summary.held_out),
    }


def _picture(name: str, example: Example) -> dict[str, Any]:
    return {"id": example.id, "class": example.class_name, "url": f"/v1/adapters/{name}/examples/{example.id}"}


def _image_answer(
    prediction: Prediction, backbone_reply: Reply | None, options: Options, pictures: Pictures | None
) -> dict[str, Any]:
    """The answer about one image."""
    answer: dict[str, Any] = {"classes": _most_probable(prediction, options.top)}
    if prediction.none_of_these is not None:
        answer |= {"none_of_these": prediction.none_of_these, "p_value": prediction.p_value}
    if prediction.labels is not None:
        answer["labels"] = list(prediction.labels)
    if isinstance(backbone_reply, BackboneAnswer):
        # What the backbone alone says is of one label, and nothing to compare several with.
        if options.zero_shot and backbone_reply.zero_shot is not None and prediction.labels is None:
            answer["zero_shot"] = _most_probable(backbone_reply.zero_shot, options.top)
        if pictures is not None:
            answer["neighbours"] = [
                {**_picture(prediction.adapter, example), "similarity": round(cosine, 4)}
                for example, cosine in pictures.nearest(backbone_reply.embedding, options.neighbours)
            ]
    return answer


def _most_probable(prediction: Prediction, top: int) -> list[dict[str, Any]]:
    order = np.argsort(-prediction.probabilities, kind="stable")[:top]
    return [
        {"name": prediction.classes[place], "probability": float(prediction.probabilities[place])} for place in order
    ]
