"""How much a server takes on: sizes, numbers and times, each with what happens beyond it."""

from __future__ import annotations

import dataclasses

MEBIBYTE = 1 << 20


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of one server. Requests beyond them are refused with a status that says so, never cut short."""

    image_bytes: int = 32 * MEBIBYTE
    """Bytes of one image's file; 413 beyond, for that image alone."""
    images_per_request: int = 64
    """Images to predict in one request; 413 beyond."""
    request_bytes: int = 64 * MEBIBYTE
    """Bytes of a request's body; 413 beyond."""
    teaching_bytes: int = 256 * MEBIBYTE
    """Bytes of the body of a request to teach, whose images wait on disk; 413 beyond."""
    bytes_in_flight: int = 512 * MEBIBYTE
    """Bytes of the bodies of all requests that are not answered yet; 429 beyond."""
    decoded_bytes: int = 512 * MEBIBYTE
    """Bytes that one image may take while it is decoded, by its header; 413 beyond, for that image alone."""
    request_pixels: int = 500_000_000
    """Pixels of a request's images together, by their headers; 413 beyond."""
    pixels_in_flight: int = 2_000_000_000
    """Pixels of all images that are being decoded or wait for it; 429 beyond."""
    images_waiting: int = 512
    """Images that are taken in and not predicted yet; 429 beyond."""
    head_seconds: float = 10.0
    """Time for the head of a request; 408 after that, and the end of the connection."""
    upload_seconds: float = 60.0
    """Time for a request's body; 408 after that."""
    batch_images: int = 32
    """Images that go through the model at once."""
    batch_milliseconds: float = 4.0
    """Most time that an image waits for others to go with it."""
    classes: int = 100
    """Classes that can be taught at once; 422 beyond."""
    images_per_class: int = 64
    """Images to teach a class with; 422 beyond."""
    teaching_steps: int = 20_000
    """Steps of one job; 422 beyond."""
    teaching_seconds: float = 3600.0
    """Time after which a job is given up."""
    jobs_waiting: int = 4
    """Jobs that are queued behind the one that runs; 429 beyond."""
    jobs_remembered: int = 50
    """Finished jobs that can still be asked for."""
    drain_seconds: float = 20.0
    """Time in which a server that is told to stop finishes its work."""
    connections: int = 1000
    """Connections that are open at once; 503 beyond."""
