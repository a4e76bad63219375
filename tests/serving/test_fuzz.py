"""Requests made up from the server's own OpenAPI document: thousands of odd ones, and every answer keeps to it."""

import contextlib
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from lowshot.serving import schema

from .running import PATIENCE, running

pytestmark = pytest.mark.long

schemathesis = pytest.importorskip("schemathesis")
EXAMPLES = 10  # of each operation, fitting ones and unfit ones


@pytest.fixture(scope="module")
def server(kinds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzed")
    shutil.copytree(kinds / "zero", folder / "zero")
    with running(folder, jobs_waiting=0) as served:
        yield served


def test_whatever_is_asked_the_answer_is_one_that_is_documented(server):
    document = server.client.get("/openapi.json").json()
    described = schemathesis.openapi.from_dict(document)
    asked = 0
    for result in described.get_all_operations():
        operation = result.ok()
        for mode in schemathesis.GenerationMode:

            @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None)
            @given(operation.as_strategy(generation_mode=mode))
            def keeps_to_it(case):
                nonlocal asked
                asked += 1
                response = case.call(base_url=str(server.client.base_url).rstrip("/"), timeout=PATIENCE)
                assert response.status_code < 500 or response.status_code == 503, response.text
                if response.status_code >= 400:
                    schema.ErrorAnswer.model_validate_json(response.content)
                else:
                    case.validate_response(response)

            with contextlib.suppress(Unsatisfiable):  # nothing can be wrong about a path that takes nothing
                keeps_to_it()
    assert asked > 100
    assert server.client.get("/readyz").status_code == 200
    [left] = server.client.get("/v1/adapters").json()["adapters"] or [None]
    assert left is None or left["name"] == "zero"
