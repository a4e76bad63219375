"""``python server.py SOCKET``: imports what lowshot needs, then forks for whoever connects, until its input ends."""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import threading

import huggingface_hub.constants

LEFT_OUT = ("lowshot.__main__", "lowshot.teaching", "lowshot.tracking", "lowshot.bench.engines.ray")
"""Run as programs, or of packages that are not there."""


def import_everything():
    import lowshot

    for module in pkgutil.walk_packages(lowshot.__path__, "lowshot."):
        if not module.name.startswith(LEFT_OUT):
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(module.name)
    # What is only imported inside functions.
    for name in ("bitsandbytes", "peft", "scipy.linalg", "sklearn", "uvicorn"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    assert all((AutoImageProcessor, AutoTokenizer, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer))


def wait_for_work(number):
    """Returns in a fork alone, with what it is to do and its input, output and errors."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that attend
    with socket.socket(fileno=number) as listening:
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            with connection:
                if not os.fork():
                    listening.close()
                    return attend(connection)
    os._exit(0)


def attend(connection):
    """Fork once more, and wait for that one's end, or for the end of whoever wanted it, who may have been killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    request = json.loads(connection.makefile().readline())
    child = os.fork()
    if not child:
        return request, descriptors
    for descriptor in descriptors:
        os.close(descriptor)
    with contextlib.suppress(OSError):
        connection.sendall(f"{child}\n".encode())
    ended = os.pidfd_open(child)
    if ended not in select.select([ended, connection], [], [])[0]:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(f"{status}\n".encode())
    os._exit(0)


def work(request, descriptors):
    """What ``python`` does with the arguments."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests were begun with it ignored
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    importlib.reload(huggingface_hub.constants)  # what the Hub's client read of the environment when it was imported
    option, what, *arguments = request["arguments"]
    sys.path[0] = request["folder"]
    sys.argv[:] = [what if option == "-m" else option, *arguments]
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


def status_of(*work_to_do):
    """The exit status of Python after that work; what is written is written."""
    try:
        work(*work_to_do)
        status = 0
    except SystemExit as left:
        status = left.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    return status


if __name__ == "__main__":
    import_everything()
    gc.freeze()  # what was imported stays where it is, in memory that all forks share
    os._exit(
        status_of(*wait_for_work(int(sys.argv[1])))
    )  # Python's own end would look at each object that was imported
