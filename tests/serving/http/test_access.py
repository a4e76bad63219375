"""Who may ask, and names, paths and forms that lead nowhere."""

import contextlib

import httpx2
import pytest

from lowshot.serving import schema
from refusing import refused

from ..running import error_of, files, png, predict, running
from .conftest import IMAGES, TOKEN


def test_without_the_token_there_is_the_page_and_nothing_else(folder):
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(folder, teach=False, token=TOKEN))
        bare = stack.enter_context(httpx2.Client(base_url=server.client.base_url, trust_env=False))
        for path in ("/", "/static/main.js", "/healthz", "/readyz", "/v1/server"):
            assert bare.get(path).status_code == 200, path
        assert bare.get("/v1/server").json()["token_required"] is True
        for path in ("/v1/adapters", "/v1/adapters/xs4", "/v1/adapters/xs4/examples/0", "/metrics", "/v1/jobs", "/x"):
            refused = bare.get(path)
            error_of(refused, 401, "token")
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        error_of(predict(bare, png(IMAGES[0])), 401, "token")
        for given in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer \xff"):
            error_of(bare.get("/v1/adapters", headers={b"Authorization": given.encode("latin-1")}), 401, "token")
        assert server.client.get("/v1/adapters").status_code == 200
        assert predict(server.client, png(IMAGES[0])).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::", "a b"])
def test_a_page_that_had_its_own_name_point_here_is_told_by_it(client, host):
    error_of(client.get("/v1/adapters", headers={"Host": host}), 400, "unknown_host")


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:1", "[::1]:8000"])
def test_this_machine_has_several_names(client, host):
    assert client.get("/v1/adapters", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://[::"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_a_page_from_elsewhere_changes_nothing(client, headers):
    path = "/v1/adapters/xs4/predict"
    error_of(client.post(path, files=files(png(IMAGES[0])), headers=headers), 403, "other_site")
    error_of(client.delete("/v1/adapters/xs4", headers=headers), 403, "other_site")
    assert client.get("/v1/adapters/xs4").status_code == 200


def test_the_servers_own_page_may_ask_and_no_other_is_told_that_it_may(client):
    origin = str(client.base_url).rstrip("/")
    response = client.post("/v1/adapters/xs4/predict", files=files(png(IMAGES[0])), headers={"Origin": origin})
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_what_is_public_may_be_asked_and_shown_by_other_sites_and_changed_by_nobody(folder):
    headers = {"Origin": "https://huggingface.co", "Sec-Fetch-Site": "cross-site"}
    with running(folder, teach=False, public=True) as server:
        page = server.client.get("/")
        assert "frame-ancestors" not in page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "X-Frame-Options" not in page.headers
        path = "/v1/adapters/xs4/predict"
        assert server.client.post(path, files=files(png(IMAGES[0])), headers=headers).status_code == 200
        error_of(server.client.delete("/v1/adapters/xs4", headers=headers), 403, "read_only")
        error_of(server.client.post("/v1/adapters", data={"name": "a"}, headers=headers), 403, "read_only")
        error_of(server.client.delete("/v1/jobs/1", headers=headers), 403, "read_only")


@pytest.mark.parametrize("how", [{"teach": True}, {"teach": False, "token": TOKEN}], ids=str)
def test_what_can_be_changed_or_has_a_token_is_never_public(folder, how):
    with refused(AssertionError, "public"), running(folder, public=True, **how):
        pass


@pytest.mark.parametrize(
    "name", ["nobody", "..%2fxs4", "%2e%2e", "xs4%2f..%2fxs4", ".teaching", "%00", "a" * 300, "xs4%20", "~", "💥"]
)
def test_names_lead_nowhere_else(client, name):
    for path in ("", "/predict", "/download", "/examples/0", "/examples/..%2f..%2flowshot.json"):
        address = f"/v1/adapters/{name}{path}"
        response = client.post(address, files=files(png(IMAGES[0]))) if path == "/predict" else client.get(address)
        assert response.status_code == 404, (address, response.text)
        schema.ErrorAnswer.model_validate(response.json())
    assert client.delete(f"/v1/adapters/{name}").status_code in (404, 405)


@pytest.mark.parametrize("number", ["9", "-1", "00", "0.png", "examples.json", "%2e%2e%2flowshot.json"])
def test_pictures_are_those_of_the_list(client, number):
    assert client.get(f"/v1/adapters/xs4/examples/{number}").status_code == 404


def test_an_adapter_that_is_refused_says_why(client):
    assert "damaged" in error_of(predict(client, png(IMAGES[0]), name="damaged"), 409, "adapter_refused")


@pytest.mark.parametrize(
    "how, status, code",
    [
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "unknown_type"),
        ({"content": b"x"}, 415, "unknown_type"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "damaged_body"),
        ({"content": b"[" * 50_000, "headers": {"Content-Type": "application/json"}}, 400, "damaged_body"),
        ({"content": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}, 400, "damaged_body"),
        ({"json": {"images": []}}, 400, "no_images"),
        ({"json": {"images": ["aa"], "more": 1}}, 400, "no_images"),
        ({"json": {"images": [1]}}, 400, "damaged_body"),
        ({"json": {"images": ["not base64!"]}}, 422, "unusable_image"),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "no_images"),
        (
            {"content": b"--y\r\n\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            400,
            "damaged_body",
        ),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "damaged_body"),
        ({"files": [("image", ("a.png", b"x"))]}, 400, "unknown_field"),
        ({"data": {"images": "a text"}, "files": [("images", ("a.png", b"x"))]}, 413, "too_large"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bodies_of_other_forms_are_refused(client, how, status, code):
    error_of(client.post("/v1/adapters/xs4/predict", **how), status, code)


@pytest.mark.parametrize("query", [{"top": 0}, {"top": "many"}, {"zero_shot": "perhaps"}, {"neighbours": -1}], ids=str)
def test_questions_out_of_range_are_refused(client, query):
    error_of(predict(client, png(IMAGES[0]), **query), 422, "unusable_setting")


def test_unknown_paths_and_methods_are_errors_of_the_same_form(client):
    error_of(client.get("/v1/nothing"), 404, "unknown_path")
    error_of(client.put("/v1/adapters"), 405, "unknown_method")
    error_of(client.get("/v1/jobs/none"), 404, "unknown_job")


def test_a_fault_of_the_servers_own_is_said_without_its_insides(folder, monkeypatch, capfd):
    with running(folder, teach=False) as server:
        monkeypatch.setattr(server.service, "adapter", lambda name: 1 / 0)
        message = error_of(server.client.get("/v1/adapters/xs4"), 500, "failed")
        assert "division" not in message and "Traceback" not in message
        assert server.client.get("/healthz").status_code == 200
    assert "ZeroDivisionError" in capfd.readouterr().err
