"""What ``lowshot doctor`` looks at; that it prints all of it is in test_cli.py."""

import json

import huggingface_hub
import pytest
from huggingface_hub import constants

from lowshot.cli import doctor
from lowshot.extras import names
from lowshot.training import speed


class Session:
    """As much of an HTTP client as is asked for."""

    def __init__(self, error=None):
        self.error = error
        self.asked = []

    def head(self, address, timeout):
        self.asked.append((address, timeout))
        if self.error:
            raise self.error


@pytest.fixture
def hub(monkeypatch):
    """A Hub that answers, or raises what is given."""

    def answer(error=None):
        session = Session(error)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub, "get_session", lambda: session)
        return session

    return answer


def test_the_hub_is_asked_and_not_supposed_to_be_there(hub):
    session = hub()
    assert doctor.check_hub().state == "ok"
    assert session.asked == [(constants.ENDPOINT, 5.0)]
    hub(ConnectionError("Name or service not known"))
    finding = doctor.check_hub()
    assert finding.state == "absent"
    assert "cannot be reached (Name or service not known)" in finding.detail


def test_a_hub_that_nobody_wants_is_not_asked(hub, monkeypatch):
    session = hub()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in doctor.check_hub().detail
    assert not session.asked


def test_every_extra_is_looked_at_and_how_to_have_it_is_said(monkeypatch):
    lacking = {"onnx": ("onnxruntime>=1.20",), "heic": (), "dev": ("pytest>=8",)}
    monkeypatch.setattr(doctor, "names", lambda: tuple(lacking))
    monkeypatch.setattr(doctor, "absent", lacking.__getitem__)
    monkeypatch.setattr(doctor, "install_command", lambda extra: f"pip install what {extra} needs")
    finding = doctor.check_extras()
    assert (finding.state, finding.detail) == ("absent", "installed: heic; onnx: pip install what onnx needs")
    lacking["onnx"] = ()
    assert doctor.check_extras().state == "ok"


def test_every_extra_of_this_project_is_known_to_it():
    assert {"onnx", "quantize", "serve", "siglip"} <= set(names())


def test_what_a_minute_is_enough_for_is_what_was_measured(monkeypatch):
    monkeypatch.setattr(speed, "measure_pace", lambda *_, **__: speed.Pace(encoded=10.0, trained=3.2))
    detail = doctor.check_pace().detail
    assert "about 600 images through the image tower of a ViT-B/16, or 6.0 steps of LoRA with 32 images" in detail


@pytest.fixture
def no_pace(monkeypatch):
    """Nothing is timed."""
    import lowshot.cli.doctor

    checks = {name: check for name, check in lowshot.cli.doctor.CHECKS.items() if name != "in a minute"}
    monkeypatch.setattr(lowshot.cli.doctor, "CHECKS", checks)


def test_doctor_finds_this_machine_well(run, no_pace):
    status, out, _ = run("doctor", "--json")
    findings = {row["name"]: row["state"] for row in json.loads(out)}
    assert status == 0
    assert {findings[name] for name in ("python", "torch", "transformers", "peft", "builtin model")} == {"ok"}


def test_doctor_names_a_torchvision_that_does_not_fit_and_can_do_without(run, monkeypatch, no_pace):
    monkeypatch.setattr("lowshot.cli.doctor.torchvision_fault", lambda: "operator torchvision::nms does not exist")
    status, out, _ = run("doctor")
    assert status == 0
    assert "absent  torchvision    what is installed does not fit this torch (operator torchvision::nms does" in out


def test_doctor_survives_what_it_looks_for(run, monkeypatch, no_pace):
    import lowshot.cli.doctor

    def broken():
        raise OSError("libtorch_cpu.so: cannot open shared object file")

    monkeypatch.setitem(lowshot.cli.doctor.CHECKS, "torch", (broken, "pip install torch"))
    status, out, _ = run("doctor")
    assert status == 1
    assert "broken  torch          pip install torch (libtorch_cpu.so" in out
