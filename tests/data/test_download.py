"""Downloads from a real server on this machine that drops connections, changes files and lies."""

import hashlib
import json
import os
import socket

import numpy as np
import pytest

from data.server import serving
from lowshot.data.catalogue import Download
from lowshot.data.catalogue import download as module
from lowshot.data.catalogue.download import fetch, verify
from lowshot.errors import DataError, OutputError, RunError
from lowshot.progress import silent
from refusing import refused

CONTENT = np.random.default_rng(0).bytes(3_300_000)
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def add():
    with serving() as add:
        yield add


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Nobody waits; how long they would have is written down."""
    waited = []
    monkeypatch.setattr(module.time, "sleep", waited.append)
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 5.0)
    return waited


def file(*urls, **published):
    return Download("set.tar", {}, urls, **published)


def known(*urls):
    return file(*urls, sha256=SHA256, size=len(CONTENT))


# -- as it should be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "published",
    [{}, {"sha256": SHA256}, {"md5": MD5}, {"size": len(CONTENT)}, {"sha256": SHA256, "size": len(CONTENT)}],
)
@pytest.mark.parametrize("announced", [True, False])
def test_a_file_arrives_whole_under_its_name_and_nothing_is_left_beside_it(add, tmp_path, published, announced):
    url, behaviour = add("/set.tar", CONTENT, announced=announced)

    path = fetch(file(url, **published), tmp_path / "new" / "folder", silent)

    assert path == tmp_path / "new" / "folder" / "set.tar"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["set.tar"]
    assert behaviour.requests == [(0, None)]


def test_progress_is_told_in_megabytes(add, tmp_path):
    url, _ = add("/set.tar", CONTENT)
    told = []

    def track(items, *, what, total):
        items = list(items)
        told.append((what, total, len(items)))
        return iter(items)

    fetch(known(url), tmp_path, track)

    assert told[0] == ("fetching set.tar (MB)", 4, 3)
    assert told[1][:2] == ("checking set.tar.partial (MB)", 4)


# -- interrupted -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [True, False])
def test_a_dropped_connection_is_resumed_where_it_broke_off(add, tmp_path, announced, waits):
    url, behaviour = add("/set.tar", CONTENT, announced=announced, drop_after=[1_000_000, 500_000])

    assert fetch(file(url), tmp_path, silent).read_bytes() == CONTENT
    assert behaviour.requests == [(0, None), (1_000_000, '"1"'), (1_500_000, '"1"')]
    assert waits == [1.0, 1.0]  # whoever gets on does not wait longer and longer


def test_many_drops_are_no_failure_as_long_as_something_arrives(add, tmp_path):
    url, behaviour = add("/set.tar", CONTENT, drop_after=[100_000] * 30)

    assert fetch(known(url), tmp_path, silent).read_bytes() == CONTENT
    assert len(behaviour.requests) == 31


def test_a_server_that_gives_nothing_is_given_up_and_what_arrived_is_kept_for_the_next_run(add, tmp_path, waits):
    url, behaviour = add("/set.tar", CONTENT, drop_after=[1_000_000, 0, 0, 0, 0])

    with refused(RunError, "1,000,000", "3,300,000", "5 times"):
        fetch(file(url), tmp_path, silent)
    assert (tmp_path / "set.tar.partial").stat().st_size == 1_000_000
    assert not (tmp_path / "set.tar").exists()
    assert waits == [1.0, 2.0, 4.0, 8.0]

    assert fetch(file(url), tmp_path, silent).read_bytes() == CONTENT
    assert behaviour.requests[-1] == (1_000_000, '"1"')


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(add, tmp_path, status):
    url, behaviour = add("/set.tar", CONTENT, statuses=[status, status])

    assert fetch(file(url), tmp_path, silent).read_bytes() == CONTENT
    assert len(behaviour.requests) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(add, tmp_path, status):
    url, behaviour = add("/set.tar", CONTENT, statuses=[status])

    with refused(RunError, url, f"HTTP {status}"):
        fetch(file(url), tmp_path, silent)
    assert len(behaviour.requests) == 1


def test_silence_and_absence_are_named(add, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts and never says a word
        monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.05)
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/set.tar"
        with refused(RunError, "timed out", "5 times"):
            fetch(file(url), tmp_path, silent)
    with refused(RunError, "no answer", "refused", "5 times"):
        fetch(file(url), tmp_path, silent)


def test_a_run_that_was_killed_after_the_last_byte_only_checks(add, tmp_path):
    url, behaviour = add("/set.tar", CONTENT)
    (tmp_path / "set.tar.partial").write_bytes(CONTENT)

    assert fetch(known(url), tmp_path, silent).read_bytes() == CONTENT
    assert behaviour.requests == []


# -- another version ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "validators", [{"etag": '"2"'}, {"etag": None, "modified": "Sat, 21 Nov 2026 10:00:00 GMT"}], ids=["tag", "date"]
)
def test_a_file_that_changed_meanwhile_is_begun_anew(add, tmp_path, validators):
    old = np.random.default_rng(1).bytes(3_000_000)
    url, behaviour = add("/set.tar", old, drop_after=[1_000_000] + [0] * 4)
    with pytest.raises(RunError):
        fetch(file(url), tmp_path, silent)
    url, behaviour = add("/set.tar", CONTENT, **validators)

    assert fetch(file(url), tmp_path, silent).read_bytes() == CONTENT
    assert behaviour.requests == [(1_000_000, '"1"')]


def test_a_server_that_does_not_heed_the_condition_is_found_out_by_its_tag(add, tmp_path):
    url, _ = add("/set.tar", np.random.default_rng(1).bytes(3_000_000), drop_after=[1_000_000] + [0] * 4)
    with pytest.raises(RunError):
        fetch(file(url), tmp_path, silent)
    url, behaviour = add("/set.tar", CONTENT, etag='"2"', heeds_if_range=False)

    assert fetch(file(url), tmp_path, silent).read_bytes() == CONTENT
    assert behaviour.requests == [(1_000_000, '"1"'), (0, None)]


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_what_has_neither_version_nor_checksum_is_begun_anew(add, tmp_path, etag):
    url, behaviour = add("/set.tar", CONTENT, etag=etag, drop_after=[1_000_000, 2_000_000])

    assert fetch(file(url), tmp_path, silent).read_bytes() == CONTENT
    assert behaviour.requests == [(0, None)] * 3


def test_with_a_checksum_it_is_continued_all_the_same(add, tmp_path):
    url, behaviour = add("/set.tar", CONTENT, etag=None, drop_after=[1_000_000])

    assert fetch(known(url), tmp_path, silent).read_bytes() == CONTENT
    assert behaviour.requests == [(0, None), (1_000_000, None)]


def test_a_server_that_ignores_ranges_sends_all_of_it_again(add, tmp_path):
    url, behaviour = add("/set.tar", CONTENT, ranges=False, drop_after=[1_000_000, 3_000_000])

    assert fetch(file(url), tmp_path, silent).read_bytes() == CONTENT
    assert [first for first, _ in behaviour.requests] == [0, 1_000_000, 3_000_000]


def test_a_server_that_sends_another_part_is_asked_for_all_of_it(add, tmp_path):
    url, behaviour = add("/set.tar", CONTENT, drop_after=[1_000_000], wrong_offset=[-5])

    assert fetch(file(url), tmp_path, silent).read_bytes() == CONTENT
    assert [first for first, _ in behaviour.requests] == [0, 1_000_000, 0]


def test_a_partial_file_longer_than_the_whole_is_begun_anew(add, tmp_path):
    url, behaviour = add("/set.tar", CONTENT)
    (tmp_path / "set.tar.partial").write_bytes(CONTENT + b"more")

    assert fetch(known(url), tmp_path, silent).read_bytes() == CONTENT
    assert [first for first, _ in behaviour.requests] == [len(CONTENT) + 4, 0]


@pytest.mark.parametrize("notes", ["", "{", "[]", '{"url": 3}', '{"url": "http://elsewhere/", "version": "\\"1\\""}'])
def test_notes_that_are_damaged_or_of_another_address_are_not_trusted(add, tmp_path, notes):
    url, behaviour = add("/set.tar", CONTENT)
    (tmp_path / "set.tar.partial").write_bytes(b"x" * 1_000)
    (tmp_path / "set.tar.partial.json").write_text(notes)

    assert fetch(file(url), tmp_path, silent).read_bytes() == CONTENT
    assert behaviour.requests == [(0, None)]


# -- wrong -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("published", [{"sha256": SHA256}, {"md5": MD5}])
def test_wrong_bytes_never_get_the_name_and_are_not_continued(add, tmp_path, published):
    url, _ = add("/set.tar", CONTENT[:-1] + b"!")

    kind = next(iter(published))
    with refused(RunError, kind, published[kind]):
        fetch(file(url, **published), tmp_path, silent)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_beginning_from_an_earlier_run_costs_one_run_only(add, tmp_path):
    url, _ = add("/set.tar", CONTENT)
    (tmp_path / "set.tar.partial").write_bytes(b"?" * 1_000)

    with pytest.raises(RunError, match="its sha256 is"):
        fetch(known(url), tmp_path, silent)
    assert fetch(known(url), tmp_path, silent).read_bytes() == CONTENT


def test_another_size_is_refused_before_it_is_fetched(add, tmp_path):
    url, _ = add("/set.tar", CONTENT)

    with refused(RunError, "3,300,000 bytes", "39,077,296,924"):
        fetch(file(url, size=39_077_296_924), tmp_path, silent)
    assert not (tmp_path / "set.tar.partial").exists()


def test_a_web_page_is_not_taken_for_the_file(add, tmp_path):
    """What Google Drive sends when too many have asked."""
    url, _ = add("/set.tar", b"<html>Quota exceeded</html>", content_type="text/html; charset=utf-8")

    with refused(RunError, "web page", "sign in"):
        fetch(file(url), tmp_path, silent)


def test_a_page_to_sign_in_does_not_cost_what_has_arrived(add, tmp_path):
    url, _ = add("/set.tar", CONTENT, drop_after=[1_000_000, 0, 0, 0, 0])
    with pytest.raises(RunError):
        fetch(file(url), tmp_path, silent)
    add("/set.tar", b"<html>Quota exceeded</html>", content_type="text/html", ranges=False)
    with pytest.raises(RunError, match="it sends a web page"):
        fetch(file(url), tmp_path, silent)
    _, behaviour = add("/set.tar", CONTENT)

    assert fetch(file(url), tmp_path, silent).read_bytes() == CONTENT
    assert behaviour.requests == [(1_000_000, '"1"')]


@pytest.mark.parametrize("page", [b"<!DOCTYPE html>...", b"\xef\xbb\xbf \n<HTML lang='en'>", b"<?xml version='1.0'?>"])
def test_a_web_page_is_recognised_whatever_the_server_calls_it(add, tmp_path, page):
    url, _ = add("/set.tar", page)

    with refused(RunError, url, "web page", "begins with"):
        fetch(file(url), tmp_path, silent)
    assert list(tmp_path.iterdir()) == []


def test_what_the_caller_refuses_is_tried_elsewhere_and_never_gets_its_name(add, tmp_path):
    wrong, _ = add("/wrong", b"something else")
    right, _ = add("/right", CONTENT)

    def check(path):
        if path.read_bytes() != CONTENT:
            raise DataError("it is something else")

    with refused(RunError, wrong, "something else"):
        fetch(file(wrong), tmp_path, silent, check)
    assert list(tmp_path.iterdir()) == []
    assert fetch(file(wrong, right), tmp_path, silent, check).read_bytes() == CONTENT


@pytest.mark.parametrize(("announced", "facts"), [(True, ("3,300,000", "1,000,000")), (False, ("more", "1,000,000"))])
@pytest.mark.parametrize(
    ("limit", "what"),
    [("LARGEST_LIST_BYTES", {"kind": "file"}), ("LARGEST_UNKNOWN_BYTES", {})],
    ids=["list", "archive"],
)
def test_a_file_of_unknown_size_has_a_limit(add, tmp_path, monkeypatch, limit, what, announced, facts):
    monkeypatch.setattr(module, limit, 1_000_000)
    url, _ = add("/set.tar", CONTENT, announced=announced)

    with refused(RunError, *facts):
        fetch(file(url, **what), tmp_path, silent)
    assert list(tmp_path.iterdir()) == []


def test_a_size_published_in_gigabytes_is_a_limit_with_room(add, tmp_path):
    url, _ = add("/set.tar", CONTENT)

    assert fetch(file(url, rounded_size=len(CONTENT) // 2), tmp_path, silent).read_bytes() == CONTENT
    with pytest.raises(RunError, match="expected at most 2,000,000"):
        fetch(file(url, rounded_size=1_000_000), tmp_path / "other", silent)


def test_a_size_that_is_only_found_out_at_the_end_is_checked_too(add, tmp_path):
    url, _ = add("/set.tar", CONTENT[:-10], announced=False)

    with refused(RunError, "3,299,990", "3,300,000"):
        fetch(file(url, size=len(CONTENT)), tmp_path, silent)
    url, _ = add("/set.tar", CONTENT + b"more", announced=False)
    with refused(RunError, "more", "3,300,000"):
        fetch(file(url, size=len(CONTENT)), tmp_path / "other", silent)


def test_the_next_address_is_tried_and_all_failures_are_told(add, tmp_path):
    gone, _ = add("/gone", b"", statuses=[404])
    wrong, _ = add("/wrong", b"?" * len(CONTENT))
    right, _ = add("/right", CONTENT)

    with refused(RunError, gone, "HTTP 404", wrong, "sha256"):
        fetch(known(gone, wrong), tmp_path, silent)
    assert fetch(known(gone, wrong, right), tmp_path, silent).read_bytes() == CONTENT


def test_another_address_continues_where_a_checksum_will_tell(add, tmp_path):
    first, _ = add("/first", CONTENT, drop_after=[1_000_000, 0, 0, 0, 0])
    second, behaviour = add("/second", CONTENT)

    assert fetch(known(first, second), tmp_path, silent).read_bytes() == CONTENT
    assert behaviour.requests == [(1_000_000, None)]


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(add, tmp_path):
    url, _ = add("/set.tar", CONTENT)
    tmp_path.chmod(0o500)
    with refused(OutputError, tmp_path, "Permission denied"):
        fetch(file(url), tmp_path, silent)


def test_a_full_disk_is_an_error_of_output_and_no_reason_to_try_again(add, tmp_path, monkeypatch, waits):
    url, _ = add("/set.tar", CONTENT)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with refused(OutputError, "set.tar.partial.json", "No space left"):
        fetch(file(url), tmp_path, silent)
    assert waits == []


# -- files that are there ----------------------------------------------------------------------------------------------


def test_a_file_at_hand_is_verified_in_the_same_way(tmp_path):
    path = tmp_path / "set.tar"
    path.write_bytes(CONTENT)

    verify(known(), path, silent)
    verify(file(), path, silent)
    verify(file(md5=MD5), path, silent)
    with pytest.raises(RunError, match="it has 3,300,000 bytes; expected 5"):
        verify(file(size=5), path, silent)
    with refused(module._OtherFileError, SHA256, "0" * 64):
        verify(file(sha256="0" * 64), path, silent)


def test_notes_are_plain_json(add, tmp_path):
    url, _ = add("/set.tar", CONTENT, drop_after=[10, 0, 0, 0, 0])
    with pytest.raises(RunError):
        fetch(file(url), tmp_path, silent)
    assert json.loads((tmp_path / "set.tar.partial.json").read_text()) == {"url": url, "version": '"1"'}
