"""How much a server takes on: sizes, numbers and times, each with what happens beyond it."""

from __future__ import annotations

import dataclasses

MEBIBYTE = 1 << 20


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of one server. Requests beyond them are refused with a status that says so, never cut short."""

    image_bytes: int = 32 * MEBIBYTE
    """Of one image's file; 413 beyond, for that image alone."""
    images_per_request: int = 64
    """Images to predict in one request; 413 beyond."""
    request_bytes: int = 64 * MEBIBYTE
    """Of a request's body; 413 beyond."""
    teaching_bytes: int = 256 * MEBIBYTE
    """Of the body of a request to teach, whose images wait on disk; 413 beyond."""
    bytes_in_flight: int = 512 * MEBIBYTE
    """Of the bodies of all requests that are not answered yet; 429 beyond."""
    images_waiting: int = 512
    """Images that are taken in and not predicted yet; 429 beyond."""
    head_seconds: float = 10.0
    """In which the head of a request must have come; 408 after that, and the end of the connection."""
    upload_seconds: float = 60.0
    """In which a request's body must have come; 408 after that."""
    batch_images: int = 32
    """That go through the model at once."""
    batch_milliseconds: float = 4.0
    """That an image waits for others to go with it, at most."""
    classes: int = 100
    """That can be taught at once; 422 beyond."""
    images_per_class: int = 64
    """To teach with; 422 beyond."""
    teaching_steps: int = 20_000
    """Of one job; 422 beyond."""
    teaching_seconds: float = 3600.0
    """After which a job is given up."""
    jobs_waiting: int = 4
    """Jobs that are queued behind the one that runs; 429 beyond."""
    jobs_remembered: int = 50
    """Finished jobs that can still be asked for."""
    drain_seconds: float = 20.0
    """In which a server that is told to stop finishes what it has."""
    connections: int = 1000
    """That are open at once; 503 beyond."""
