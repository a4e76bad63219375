"""The command ``lowshot serve``."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ..errors import InputError, OutputError
from ..progress import shown
from ..records import RECORD_FILE
from ..settings import parse_bytes
from .arguments import refuse_below, refuse_without_server
from .parsing import parse
from .printing import warn

if TYPE_CHECKING:
    from ..serving import AdapterBank

DEMO = {"digits": 8, "letters": 4}
"""Lessons of `--demo`: built-in task -> images per class."""
_DEMO_FOLDS = 2


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Serve a folder of adapters: a page in the browser, and an HTTP interface."""

    folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")] = None
    """Folder with an adapter in each of its folders, as `lowshot fit` writes them; a new or empty one to teach into."""
    host: str = "127.0.0.1"
    """Address to serve at. One that other machines can reach needs `--token-file`, or `--public`."""
    port: int = 8000
    """Port; 0 for any that is free."""
    token_file: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File with a secret word that every request must bring."""
    public: bool = False
    """Let anybody ask who can reach the address, without a token, and other sites show the page inside theirs; only
    with `--no-teach`."""
    memory: str = "2GB"
    """Most memory for adapters and class embeddings; those asked for longest ago make room."""
    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Where the backbone is: a folder or a Hub id. If not given that of most adapters, or the built-in one."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`, or `mps`, the GPU of a Mac."""
    precision: Annotated[Literal["fp32", "bf16", "fp16"] | None, tyro.conf.arg(metavar="TYPE")] = None
    """Compute all adapters in `fp32`, `bf16` or `fp16`, whatever they were trained in: on a CPU fp32 is fastest. If
    not given that of most of them, and those of another are not served."""
    threads: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Processor threads to compute with; as many as there are cores if not given."""
    teach: bool = True
    """Whether adapters can be taught and removed; `--no-teach` only reads the folder."""
    demo: bool = False
    """Teach the built-in model digits and letters first, where they are not in the folder yet. Without a folder it all
    goes at the end."""

    def check(self) -> None:
        """See ``Checked``."""
        if self.folder is None and not self.demo:
            raise InputError("serve needs a folder of adapters, which may be new: lowshot serve DIR; or try --demo")
        if self.demo and self.model not in (None, "builtin"):
            raise InputError(f"demo is of the built-in model, but model is {self.model}; leave one out")
        if self.public and (self.teach or self.token_file is not None):
            raise InputError(
                "public lets anybody ask, so nobody may change anything: say --no-teach, and no --token-file"
            )
        refuse_below(1, threads=self.threads)
        parse_bytes("memory", self.memory)  # refuses what is no amount


def run(arguments: Sequence[str]) -> int:
    """Serve until a signal ends it."""
    parsed = parse(Arguments, "serve", arguments)
    refuse_without_server("lowshot serve")
    if parsed.folder is not None and parsed.folder.exists() and not parsed.folder.is_dir():
        raise InputError(f"{parsed.folder} is a file; expected a folder of adapters")
    if parsed.folder is not None and (parsed.folder / RECORD_FILE).exists():
        within = parsed.folder.parent
        raise InputError(f"{parsed.folder} is an adapter; expected the folder that it lies in: {within}")
    from ..serving.server import ServerSettings, listening_socket, read_token, serve, url_of

    token = None if parsed.token_file is None else read_token(parsed.token_file)
    with contextlib.ExitStack() as until_the_end:
        socket = listening_socket(parsed.host, parsed.port, token, public=parsed.public)
        listening = until_the_end.enter_context(socket)
        folder = parsed.folder or Path(until_the_end.enter_context(TemporaryDirectory(prefix="lowshot-demo-")))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"folder {folder} cannot be made: {error.strerror or error}") from error
        if parsed.threads is not None:
            import torch

            torch.set_num_threads(parsed.threads)
        if parsed.demo:
            _teach_demo(folder)

        def announce(bank: AdapterBank) -> None:
            warn(f"{name} is not served: {reason}" for name, reason in bank.refused().items())
            count = len(bank.names())
            adapters = f"{count} adapter{'' if count == 1 else 's'} of {bank.backbone.identity.id}"
            print(f"serving {adapters} at {url_of(listening)} (Ctrl-C stops)", flush=True)

        names = ("memory", "model", "device", "precision", "teach", "public", "demo")
        serve(listening, ServerSettings(folder, token, **{name: getattr(parsed, name) for name in names}), announce)
    return 0


def _teach_demo(folder: Path) -> None:
    """Teach what is not there yet, with pictures of what it was taught with."""
    from ..classifier import FewShotClassifier
    from ..data import builtin_task
    from ..serving.examples import write_examples

    for name, shots in DEMO.items():
        if (folder / name).exists():
            continue
        print(f"teaching {name} from {shots} images of each ...", flush=True)
        task = builtin_task(name)
        classifier = FewShotClassifier(method="lora-xs", calibration_folds=_DEMO_FOLDS)
        classifier.fit(task, shots=shots, track=shown).evaluate(task, track=shown)
        classifier.save_pretrained(folder / name)
        places = {identity: place for place, identity in enumerate(task.train.identities)}
        drawn = [places[identity] for identity in classifier.record_.draw]
        labels = [task.class_names[task.train.labels[place]] for place in drawn]
        write_examples(folder / name, [task.train.images[place] for place in drawn], labels)
