"""``lowshot serve``: what is refused before anything is loaded, and what it teaches to be tried out."""

import importlib.util
import socket

import pytest

from lowshot.cli import serve
from lowshot.extras import install_command
from lowshot.serving.bank import AdapterBank
from lowshot.serving.examples import read_examples
from refusing import assert_states

TOKEN = "a-word-that-nobody-guesses"


def error(printed):
    assert printed.startswith("lowshot: error: ") and printed.count("\n") == 1, printed
    return printed


@pytest.mark.parametrize(
    "arguments, facts",
    [
        ([], ["lowshot serve DIR", "--demo"]),
        (["DIR", "--host", "0.0.0.0"], ["host 0.0.0.0", "other machines", "--token-file"]),
        (["DIR", "--host", "::"], ["host ::", "other machines", "--token-file"]),
        (["DIR", "--host", "0.0.0.0", "--public"], ["public", "--no-teach"]),
        (["DIR", "--public", "--no-teach", "--token-file", "token"], ["public", "no --token-file"]),
        (["DIR", "--host", "no such host"], ["host 'no such host'", "no address"]),
        (["DIR", "--port", "70000"], ["port is 70000", "0 to 65535"]),
        (["DIR", "--memory", "much"], ["memory is 'much'", "2GB"]),
        (["DIR", "--threads", "0"], ["threads is 0", "1 or more"]),
        (["DIR", "--token-file", "nothing"], ["token file nothing", "No such file"]),
        (["--demo", "--model", "openai/clip-vit-base-patch16"], ["demo", "built-in", "openai/clip-vit-base-patch16"]),
        (["DIR", "--colour", "red"], ["--colour"]),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_said_in_one_line(run, tmp_path, monkeypatch, arguments, facts):
    monkeypatch.chdir(tmp_path)
    status, out, err = run("serve", *arguments)
    assert (status, out) == (2, "")
    assert_states(error(err), *facts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("token", ["short", "two words that are long enough", "ä" * 20, "", "line\nand-another-line"])
def test_a_token_that_could_be_guessed_or_not_be_sent_is_refused(run, tmp_path, token):
    (tmp_path / "token").write_text(token, encoding="utf-8")
    status, _, err = run("serve", tmp_path / "new", "--token-file", tmp_path / "token")
    assert status == 2
    assert_states(error(err), f"token file {tmp_path / 'token'}", "16 or more")


def test_a_port_that_is_taken_is_said_in_one_line(run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        status, _, err = run("serve", tmp_path / "new", "--port", port)
    assert status == 2
    assert_states(error(err), f"port {port}", "127.0.0.1", "--port")


def test_a_file_or_an_adapter_is_no_folder_of_adapters(run, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "lowshot.json").touch()
    assert_states(error(run("serve", tmp_path / "file", "--port", "0")[2]), tmp_path / "file", "a file")
    assert_states(error(run("serve", tmp_path / "adapter", "--port", "0")[2]), "an adapter", f"in: {tmp_path}")


def test_a_missing_package_is_named_with_how_to_install_it(run, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    status, _, err = run("serve", tmp_path)
    assert status == 2 and install_command("serve") in error(err)


def test_a_host_beyond_this_machine_is_served_with_a_token(tmp_path):
    from lowshot.serving.server import listening_socket, read_token, url_of

    (tmp_path / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
    assert read_token(tmp_path / "token") == TOKEN
    with listening_socket("0.0.0.0", 0, TOKEN) as listening:
        assert url_of(listening).startswith("http://localhost:")
    with listening_socket("0.0.0.0", 0, None, public=True) as listening:
        assert url_of(listening).startswith("http://localhost:")
    with listening_socket("127.0.0.1", 0, None) as listening:
        assert url_of(listening).startswith("http://127.0.0.1:")


@pytest.mark.long
def test_the_demo_teaches_once_and_keeps_pictures(run, tmp_path, monkeypatch):
    from lowshot.serving import server

    served = []
    monkeypatch.setattr(serve, "DEMO", {"digits": 1})
    monkeypatch.setattr(serve, "_DEMO_FOLDS", 0)
    monkeypatch.setattr(server, "serve", lambda listening, settings, announce: served.append(settings))
    for _ in range(2):
        assert run("serve", tmp_path, "--demo", "--port", "0")[0] == 0
    assert [settings.demo for settings in served] == [True, True]
    bank = AdapterBank(tmp_path)
    assert bank.names() == ["digits"] and bank.describe("digits").record.metrics["acc1"] > 0.7
    examples = read_examples(tmp_path / "digits")
    assert len(examples) == 10 and {example.class_name for example in examples} == set(bank.describe("digits").classes)
    assert bank.predict([examples[0].path], "digits")[0].best == examples[0].class_name


def test_a_demo_without_a_folder_leaves_nothing(run, monkeypatch):
    from lowshot.serving import server

    monkeypatch.setattr(serve, "DEMO", {})
    folders = []
    monkeypatch.setattr(server, "serve", lambda listening, settings, announce: folders.append(settings.folder))
    assert run("serve", "--demo", "--port", "0")[0] == 0
    assert folders and not folders[0].exists()
