"""Teaching over HTTP: what is refused, what a job tells, and that nothing half-made is ever among the adapters."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import textwrap
from pathlib import Path

import httpx2
import numpy as np
import pytest

from lowshot import FewShotClassifier
from lowshot.errors import OutputError
from lowshot.serving import jobs, schema
from lowshot.serving.jobs import FOLDER, Workshop
from lowshot.serving.limits import Limits
from lowshot.serving.refusals import Refusal
from lowshot.serving.teach_requests import checked_settings
from refusing import refused

from .conftest import CLASSES, pictures
from .running import error_of, files, lesson, png, predict, running, started, until

IMAGES = list(pictures(6, seed=3))
LABELS = [CLASSES[row % 3] for row in range(6)]
SETTINGS = {"steps": 3, "rank": 2, "batch_size": 4}


FEW = {"jobs_waiting": 2, "classes": 3, "images_per_class": 4, "image_bytes": 5000}


@pytest.fixture
def server(tiny_clip, tmp_path):
    with running(tmp_path, model=str(tiny_clip), **FEW) as served:
        yield served


@pytest.fixture(scope="module")
def idle(tiny_clip, tmp_path_factory):
    """A server for what never comes to be taught."""
    with running(tmp_path_factory.mktemp("idle"), model=str(tiny_clip), **FEW) as served:
        yield served
        assert inside(served.service.bank.folder) == set()
        assert served.client.get("/v1/jobs").json() == {"jobs": []}


@pytest.fixture
def program(monkeypatch, tmp_path_factory):
    """Have something else run in the place of the process that teaches; its folder is in ``sys.argv[1]``."""

    def use(text):
        path = tmp_path_factory.mktemp("program") / "program.py"
        path.write_text("import json, os, pathlib, sys, time\n" + textwrap.dedent(text), encoding="utf-8")
        monkeypatch.setattr(jobs, "PROGRAM", (str(path),))

    return use


FOREVER = """
print(json.dumps({'notes': ['one image is grey']}))
print(json.dumps({'what': 'learning', 'step': 1, 'steps': 9, 'loss': 0.5}), flush=True)
time.sleep(600)
"""


def teach(server, name="pets", images=IMAGES, labels=LABELS, **settings):
    return server.client.post("/v1/adapters", **lesson(name, images, labels, **{**SETTINGS, **settings}))


def job_of(server, response):
    assert response.status_code == 202, response.text
    accepted = schema.AcceptedAnswer.model_validate(response.json())
    return lambda: schema.JobAnswer.model_validate(server.client.get(accepted.url).json())


def over(job):
    return until(lambda: (state := job()).state in ("done", "failed", "cancelled") and state)


def inside(folder):
    """What there is but for the empty workshop."""
    walk = os.walk(folder)  # unlike rglob it bears that folders go meanwhile
    paths = [Path(root, name) for root, folders, files in walk for name in (*folders, *files)]
    return {path.relative_to(folder).as_posix() for path in paths} - {FOLDER, f"{FOLDER}/lock"}


@pytest.mark.long
def test_what_is_taught_is_what_fit_learns_from_the_same_images(server, tmp_path, tiny_clip):
    job = job_of(server, teach(server))
    seen = []
    until(lambda: seen.append(job()) or seen[-1].state in ("done", "failed"))
    assert seen[-1].state == "done", seen[-1].message
    assert seen[-1].adapter == "pets" and seen[-1].seconds > 0 and seen[-1].loss > 0
    until(lambda: not [path for path in (tmp_path / FOLDER).iterdir() if path.name != "lock"])

    mine = FewShotClassifier(str(tiny_clip), method="lora-xs", base_steps=3, steps_per_shot=0, rank=2, batch_size=4)
    mine.fit(IMAGES, LABELS)
    answer = predict(server.client, png(IMAGES[0]), name="pets", neighbours=1).json()["predictions"][0]
    expected = dict(zip(mine.classes_, mine.predict_proba(IMAGES[:1])[0], strict=True))
    assert {each["name"]: each["probability"] for each in answer["classes"]} == pytest.approx(expected, abs=5e-3)
    assert answer["neighbours"][0]["id"] == "0"
    assert np.array_equal(FewShotClassifier.from_pretrained(tmp_path / "pets").classes_, mine.classes_)

    written = (tmp_path / "pets" / "lowshot.json").read_text(encoding="utf-8")
    assert FOLDER not in written and json.loads(written)["provenance"]["command"] == "lowshot serve"
    error_of(teach(server), 409, "name_taken")
    assert server.client.delete("/v1/adapters/pets").status_code == 204
    error_of(server.client.get("/v1/adapters/pets"), 404, "unknown_name")
    assert inside(tmp_path) == set()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a..b", "a/b", "/a", "A", "ä", "-a", ".a", "a b", "a" * 65, "con", "nul.x", "com1", "a.", "a\n"],
)
def test_names_that_no_folder_should_have_are_refused(idle, name):
    assert teach(idle, name).status_code in (400, 422)


@pytest.mark.parametrize(
    "change, status, fact",
    [
        ({"labels": LABELS[:5]}, 400, "6 images and 5 labels"),
        ({"labels": ["cat"] * 6}, 422, "1 class"),
        ({"labels": list("abcdef")}, 422, "6 class(es); expected 2 to 3"),
        ({"labels": ["cat"] * 5 + ["dog"]}, 422, "'cat' has 5 images; expected at most 4"),
        ({"labels": ["cat", "Cat", "dog"] * 2}, 422, "capital and in small letters"),
        ({"labels": [" ", *LABELS[1:]]}, 422, "a label is ' '"),
        ({"labels": ["a\u202eb", *LABELS[1:]]}, 422, "printable"),
        ({"labels": ["x" * 101, *LABELS[1:]]}, 422, "1 to 100"),
        ({"rank": 0}, 422, "rank is 0"),
        ({"rank": "many"}, 422, "rank is 'many'"),
        ({"rank": 10**30}, 422, "rank"),
        ({"learning_rate": float("inf")}, 422, "learning-rate"),
        ({"steps": 0}, 422, "steps is 0"),
        ({"method": "zero-shot"}, 422, "method zero-shot takes none"),
        ({"method": "zero-shot", "steps": None}, 422, "batch-size is 4, but method zero-shot"),
        ({"steps": 10**9}, 422, "at most 20,000"),
        ({"steps": 9000, "calibration_folds": 5}, 422, "54,000 steps"),
        ({"method": "full"}, 422, "method is 'full'"),
        ({"method": ["lora"]}, 422, "method is"),
        ({"batch_size": 10**6}, 422, "at most 256"),
        ({"model": "/etc"}, 422, "'model' cannot be set here"),
        ({"class_names": "/etc/passwd"}, 422, "'class_names' cannot be set here"),
        ({"template": "no place"}, 422, "template"),
        ({"template": ["{}"] * 21}, 422, "template has 21 texts"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_lessons_that_cannot_be_learnt_are_refused_at_once(idle, change, status, fact):
    response = teach(idle, **change)
    assert response.status_code == status and fact in response.json()["error"]["message"], response.text


@pytest.mark.parametrize(
    "content, status",
    [(b"no image", 422), (png(IMAGES[0])[:90], 422), (bytes(5001), 413)],
    ids=["text", "cut off", "large"],
)
def test_a_bad_image_is_named_before_anything_is_learnt(idle, content, status):
    asked = lesson("pets", IMAGES, LABELS, **SETTINGS)
    asked["files"][4] = files(content)[0]
    response = idle.client.post("/v1/adapters", **asked)
    assert response.status_code == status
    assert "images[4]" in response.json()["error"]["message"]
    assert inside(idle.service.bank.folder) == set()


def test_the_method_may_be_left_to_the_images():
    methods = ("lora-xs", "auto")
    assert checked_settings({"method": "auto"}, LABELS, "builtin", Limits(), methods) == {"method": "auto"}
    assert checked_settings({}, LABELS, "builtin", Limits(), methods) == {"method": "lora-xs"}
    with refused(Refusal, "steps", "method auto"):
        checked_settings({"method": "auto", "steps": 5}, LABELS, "builtin", Limits(), methods)


def test_forms_with_anything_else_are_refused(idle):
    asked = lesson("pets", IMAGES, LABELS)
    asked["data"]["labls"] = "x"
    error_of(idle.client.post("/v1/adapters", **asked), 400, "unknown_field")
    error_of(idle.client.post("/v1/adapters", json={"name": "pets"}), 415, "unknown_type")
    error_of(idle.client.post("/v1/adapters", data={"name": "pets"}, files=files(b"")), 400, "damaged_body")


def test_a_job_tells_how_far_it_is_and_can_be_cancelled(server, program, tmp_path):
    program(FOREVER)
    job = job_of(server, teach(server))
    running_job = until(lambda: (state := job()).step == 1 and state)
    assert (running_job.state, running_job.message, running_job.steps, running_job.loss) == (
        "running",
        "learning",
        9,
        0.5,
    )
    assert running_job.notes == ["one image is grey"]
    process = server.service.teaching.job(running_job.id).process
    cancelled = server.client.delete(f"/v1/jobs/{running_job.id}")
    assert cancelled.status_code == 200 and cancelled.json()["state"] == "cancelled"
    assert process.returncode is not None
    error_of(server.client.delete(f"/v1/jobs/{running_job.id}"), 409, "job_over")
    until(lambda: inside(tmp_path) == set())


def test_one_is_taught_at_a_time_a_few_wait_and_the_rest_are_told_to_come_back(server, program):
    program(FOREVER)
    first, second, third = (job_of(server, teach(server, name)) for name in ("a", "b", "c"))
    until(lambda: first().state == "running")
    assert (second().state, third().state) == ("queued", "queued")
    refused = teach(server, "d")
    error_of(refused, 429, "busy")
    assert int(refused.headers["Retry-After"]) >= 1
    error_of(teach(server, "b"), 409, "name_taken")
    server.client.delete(f"/v1/jobs/{second().id}")
    server.client.delete(f"/v1/jobs/{first().id}")
    until(lambda: third().state == "running")
    assert [each["name"] for each in server.client.get("/v1/jobs").json()["jobs"]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "text, fact",
    [
        ("print(json.dumps({'error': 'training diverged'}), flush=True); sys.exit(1)", "training diverged"),
        ("print('what a library prints'); print('[1]'); sys.exit(3)", "ended with status 3"),
        ("os.kill(os.getpid(), 9)", "it was killed, as the system does where memory runs out"),
    ],
    ids=["error", "status", "killed"],
)
def test_a_process_that_fails_is_a_failed_job_and_leaves_its_name_free(server, program, tmp_path, text, fact):
    half = "path = pathlib.Path(sys.argv[1], 'adapter'); path.mkdir(); (path / 'lowshot.json').write_text('{')\n"
    program(half + text)
    job = over(job_of(server, teach(server)))
    assert job.state == "failed" and fact in job.message and job.adapter is None
    until(lambda: inside(tmp_path) == set())
    program(FOREVER)
    assert teach(server).status_code == 202


def test_a_job_that_takes_too_long_is_given_up(tiny_clip, tmp_path, program):
    program(FOREVER)
    with running(tmp_path, model=str(tiny_clip), teaching_seconds=0.5) as server:
        job = over(job_of(server, teach(server)))
    assert job.state == "failed" and "given up after 0.5 s" in job.message


def test_a_folder_that_appears_under_the_name_meanwhile_is_left_alone(server, program, tmp_path):
    program(
        """
        pathlib.Path(sys.argv[1], 'adapter').mkdir()
        print(json.dumps({'what': 'x', 'step': 1}), flush=True)
        while not pathlib.Path(sys.argv[1], '../../pets/mine').exists():
            time.sleep(0.01)
        """
    )
    job = job_of(server, teach(server))
    until(lambda: job().step == 1)
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "mine").touch()
    assert over(job).state == "failed" and "already exists" in job().message
    until(lambda: inside(tmp_path) == {"pets", "pets/mine"})  # a job is over before its folder is gone


def test_an_adapter_that_is_a_link_is_removed_without_what_it_leads_to(server, kinds, tmp_path_factory, tmp_path):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "one"
    elsewhere.mkdir()
    for path in (kinds / "zero").iterdir():
        (elsewhere / path.name).write_bytes(path.read_bytes())
    (tmp_path / "linked").symlink_to(elsewhere)
    assert predict(server.client, png(IMAGES[0]), name="linked").status_code == 200
    assert server.client.delete("/v1/adapters/linked").status_code == 204
    assert not (tmp_path / "linked").is_symlink() and (elsewhere / "lowshot.json").exists()


def test_one_server_at_a_time_teaches_in_a_folder(tmp_path):
    workshop = Workshop(tmp_path)
    with refused(OutputError, tmp_path, "another lowshot serve", "--no-teach"):
        Workshop(tmp_path)
    workshop.close()
    assert list(tmp_path.iterdir()) == []
    Workshop(tmp_path).close()


def test_a_workshop_empties_what_a_killed_server_left(tmp_path):
    (tmp_path / FOLDER / "0123" / "adapter").mkdir(parents=True)
    workshop = Workshop(tmp_path)
    assert inside(tmp_path) == set()
    workshop.close()


# -- the whole of it, as a user starts it ------------------------------------------------------------------------------


def long_lesson(url, folder):
    """Begin to teach for a long time."""
    with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
        response = client.post("/v1/adapters", **lesson("pets", IMAGES, LABELS, steps=20_000))
        assert response.status_code == 202, response.text
    until(lambda: teachers(folder))


def teachers(folder):
    """Processes that teach in a folder."""
    numbers = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes()
            if b"lowshot.teaching" in command and os.fsencode(folder) in command:
                numbers.append(int(path.parent.name))
    return numbers


def refuses(address):
    try:
        socket.create_connection(address, 60).close()
    except OSError:
        return True
    return False


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_server_that_is_killed_while_it_teaches_leaves_nothing_half_made(tiny_clip, tmp_path, forked):
    with started(forked, tmp_path, "--model", tiny_clip) as (process, url):
        long_lesson(url, tmp_path)
        process.kill()
        process.wait()
    assert {path.name for path in tmp_path.iterdir()} == {FOLDER}
    until(lambda: not teachers(tmp_path))
    with running(tmp_path, model=str(tiny_clip)) as server:
        assert inside(tmp_path) == set()
        assert server.client.get("/v1/adapters").json() == {"adapters": [], "refused": []}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_server_that_is_told_to_stop_answers_what_it_has_taken_in(kinds, tmp_path, number, forked):
    shutil.copytree(kinds / "xs4", tmp_path / "xs4")
    with started(forked, tmp_path) as (process, url):
        if number == signal.SIGTERM:
            long_lesson(url, tmp_path)
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1].strip("/")))
        body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n' + png(IMAGES[0])
        body += b"\r\n--x--\r\n"
        head = f"POST /v1/adapters/xs4/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: multipart/form-data; boundary=x\r\nExpect: 100-continue\r\n\r\n"
        with socket.create_connection(address, 60) as connection:
            connection.sendall(head.encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 100")  # it waits for the body now
            connection.sendall(body[:-4])
            process.send_signal(number)
            until(lambda: refuses(address))
            connection.sendall(body[-4:])
            line = connection.makefile("rb").readline()
        _, errors = process.communicate(timeout=60)
    assert line.startswith(b"HTTP/1.1 200"), line
    assert process.returncode == 0 and "Traceback" not in errors, errors
    assert not teachers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"xs4"}
