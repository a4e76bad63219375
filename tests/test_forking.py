"""A forked process ends as a fresh one does: what tests of kills and of exit statuses rest on."""

import os
import signal
import subprocess
import time

import pytest

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        ("print('done')", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("raise ValueError('why')", 1, "ValueError: why"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
    ],
)
def test_its_status_is_its_own(forked, tmp_path, program, status, said):
    done = subprocess.run([*forked, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, said in done.stderr) == (status, True)
    assert done.stdout == ("done\n" if status == 0 else "")


def test_it_has_the_folder_environment_and_arguments_that_it_was_given(forked, tmp_path):
    program = "import os, sys; print(os.getcwd(), os.environ['COLOUR'], *sys.argv[1:])"
    environment = {**os.environ, "COLOUR": "red"}
    command = [*forked, "-c", program, "one", "two words"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path} red one two words\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(forked, number):
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with subprocess.Popen([*forked, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asked:
        process = int(asked.stdout.readline())
        asked.send_signal(number)
        asked.wait(60)
    for _ in range(1000):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("it still runs")


ANSWERS_IN_A_CHILD = """
import os, signal, numpy as np, torch
from lowshot import FewShotClassifier
torch.set_num_threads(2)
images = np.random.default_rng(0).integers(0, 255, (24, 32, 32, 3), dtype=np.uint8)
classifier = FewShotClassifier(method="gda", views=1, threads=2).fit(images, list("abc") * 8)
expected = classifier.predict_proba(images)
if not (child := os.fork()):
    signal.alarm(20)
    again = classifier.predict_proba(images)
    fitted = FewShotClassifier(method="gda", views=1, threads=2).fit(images, list("abc") * 8)
    assert max(abs(table - expected).max() for table in (again, fitted.predict_proba(images))) < 1e-4
    for each in (classifier, fitted):
        assert any(line.startswith("one thread computes") for line in each.warnings_), each.warnings_
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert torch.get_num_threads() == 2
assert not any(line.startswith("one thread computes") for line in classifier.warnings_), classifier.warnings_
"""


def test_a_classifier_answers_in_a_forked_child_whose_parent_computed_with_two_threads(forked, tmp_path):
    """The child waited for threads that had not come along."""
    environment = {**os.environ, "LOWSHOT_CACHE": str(tmp_path)}
    command = [*forked, "-c", ANSWERS_IN_A_CHILD]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


HELD_BY_ANOTHER_THREAD = """
import os, threading, time
from lowshot.threads import BUILDING
held = threading.Event()
def hold():
    with BUILDING:
        held.set()
        time.sleep(0.2)
threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if not child:
    os._exit(0 if BUILDING.acquire(timeout=2) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_a_lock_that_another_thread_holds_is_free_in_a_forked_child(forked, tmp_path):
    command = [*forked, "-c", HELD_BY_ANOTHER_THREAD]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
