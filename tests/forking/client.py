"""``python client.py ADDRESS ARGUMENTS``: what ``python ARGUMENTS`` does, done by a fork of the server at the address.

Input, output, folder, environment, signals and exit status are those of this process, and the fork is killed if it is.
"""

import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path


def main(address, arguments):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        request = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
        socket.send_fds(connection, [b"\n"], [0, 1, 2])
        connection.sendall(json.dumps(request).encode() + b"\n")
        answers = connection.makefile()
        child = int(answers.readline())

        def pass_on(number, _):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, pass_on)
        status = int(answers.readline())
    if status < 0:
        with contextlib.suppress(OSError):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
