"""The shapes of a server's answers, for its OpenAPI document. Answers are made by hand and tested against them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(_Answer):
    """Why something was not done."""

    code: str = Field(description="One word for programs.")
    message: str = Field(description="For people: what it is about, what was got, what was expected, the next step.")


class Removal(_Answer):
    """A request for an adapter without some classes of another."""

    name: str = Field(description="Name of the new adapter.")
    classes: list[str] = Field(min_length=1, description="Names of the classes that it is to be without.")


class Renaming(_Answer):
    """A request for an adapter with another name of a class."""

    name: str = Field(description="Name of the new adapter.")
    old: str = Field(description="Name of the class.")
    new: str = Field(description="What it is to be called.")


class ErrorAnswer(BaseModel):
    """An answer other than what was asked for."""

    error: Problem


class Chance(_Answer):
    """A class and how probable it is."""

    name: str
    probability: float = Field(ge=0, le=1)


class Neighbour(_Answer):
    """A picture that the adapter was taught with."""

    id: str
    class_: str = Field(alias="class")
    similarity: float = Field(description="Cosine of the backbone's image embeddings.")
    url: str


class ImageAnswer(_Answer):
    """What is said of one image: the most probable classes, or why there are none."""

    classes: list[Chance] | None = None
    none_of_these: bool | None = Field(
        default=None, description="Whether it is of none of the classes, of which the first is the nearest then."
    )
    p_value: float | None = Field(default=None, gt=0, le=1, description="That of belonging to one of the classes.")
    labels: list[str] | None = Field(
        default=None, description="Where images have several labels: all of them, the most probable first, or none."
    )
    zero_shot: list[Chance] | None = None
    neighbours: list[Neighbour] | None = None
    error: Problem | None = None


class PredictAnswer(_Answer):
    """What an adapter says of the images of a request, in their order."""

    adapter: str
    predictions: list[ImageAnswer]
    milliseconds: float


class ImageEmbedding(_Answer):
    """The embedding of one image, or why there is none."""

    embedding: list[float] | None = Field(None, description="D numbers, of length 1 together.")
    error: Problem | None = None


class EmbedAnswer(_Answer):
    """Embeddings of the images of a request, in their order."""

    adapter: str
    embeddings: list[ImageEmbedding]
    milliseconds: float


class ImageExplanation(_Answer):
    """Which parts of an image spoke for a class, or why that is not said."""

    name: str | None = Field(None, description="The class that is asked about.")
    probability: float | None = None
    relevance: list[list[float]] | None = Field(
        None, description="Share of each place, row by row of the central square that the model saw; they sum to 1."
    )
    picture: str | None = Field(None, description="That square in grey with its places in colour: a PNG in base64.")
    error: Problem | None = None


class ExplainAnswer(_Answer):
    """Explanations of the images of a request, in their order."""

    adapter: str
    explanations: list[ImageExplanation]
    milliseconds: float


class ImagesAsText(_Answer):
    """Images in a JSON body."""

    images: list[str] = Field(min_length=1, description="Each an image's file in base64.")


class ServerAnswer(_Answer):
    """What this server is and takes."""

    version: str
    model: str
    reads_names: bool = Field(description="Whether the model has a text tower: without one names decide nothing.")
    methods: list[str]
    settings: list[str]
    limits: dict[str, float]
    teach: bool
    token_required: bool
    demo: bool


class HeldOutFigure(_Answer):
    """How many shots were recognised by classifiers that had not learnt from them."""

    right: int
    images: int
    best_of: int = Field(description="Methods that were compared by them; the best one's figure flatters it a little.")


class AdapterLine(_Answer):
    """An adapter in the list."""

    name: str
    method: str
    classes: int
    shots: int
    rank: int | None
    bytes: int
    trainable_parameters: int
    created: str | None
    calibrated: bool
    accuracy: float | None
    held_out: HeldOutFigure | None


class RefusedLine(_Answer):
    """An adapter that is not served."""

    name: str
    reason: str


class AdaptersAnswer(_Answer):
    """The adapters."""

    adapters: list[AdapterLine]
    refused: list[RefusedLine]


class ExampleLine(_Answer):
    """A picture that the adapter was taught with."""

    id: str
    class_: str = Field(alias="class")
    url: str


class AdapterAnswer(AdapterLine):
    """All of one adapter."""

    class_names: list[str]
    prompts: list[list[str]]
    temperature: float
    reject: float | None = Field(description="Share of known images that may be said to be of none of the classes.")
    notes: list[str]
    record: dict[str, Any]
    examples: list[ExampleLine]


class JobAnswer(_Answer):
    """A classifier that is being taught."""

    id: str
    name: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    step: int
    steps: int
    loss: float | None
    seconds: float
    message: str
    adapter: str | None
    notes: list[str] = Field(description="What a person should know of the images and of what was learnt.")


class JobsAnswer(_Answer):
    """All that are known."""

    jobs: list[JobAnswer]


class AcceptedAnswer(_Answer):
    """A job was queued."""

    job: str
    url: str


class StateAnswer(_Answer):
    """Whether the server is well."""

    status: Literal["ok", "draining"]
