"""An HTTP server on loopback that misbehaves as it is told to."""

import contextlib
import dataclasses
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclasses.dataclass
class Behaviour:
    """How one path is answered. What is in a list is used up, one entry per request."""

    content: bytes
    ranges: bool = True  # answer Range with 206
    etag: str | None = '"1"'
    modified: str | None = None
    content_type: str = "application/octet-stream"
    announced: bool = True  # Content-Length, else chunks
    drop_after: list = dataclasses.field(default_factory=list)  # bytes, then the connection is closed
    statuses: list = dataclasses.field(default_factory=list)  # instead of an answer
    wrong_offset: list = dataclasses.field(default_factory=list)  # added to where a range begins
    heeds_if_range: bool = True
    requests: list = dataclasses.field(default_factory=list)  # (first byte asked for, If-Range)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        behaviour = self.server.paths.get(self.path)
        if behaviour is None:
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        condition = self.headers.get("If-Range")
        behaviour.requests.append((first, condition))
        self.close_connection = True
        status = behaviour.statuses.pop(0) if behaviour.statuses else None
        if status:
            self.send_error(status)
            return
        known = (behaviour.etag, behaviour.modified, None)
        if not asked or not behaviour.ranges or (behaviour.heeds_if_range and condition not in known):
            self._send(200, behaviour, 0)
        elif first >= len(behaviour.content):
            self.send_error(416)
        else:
            offset = behaviour.wrong_offset.pop(0) if behaviour.wrong_offset else 0
            self._send(206, behaviour, first + offset)

    def _send(self, status, behaviour, first):
        content = behaviour.content[first:]
        self.send_response(status)
        self.send_header("Content-Type", behaviour.content_type)
        if status == 206:
            total = len(behaviour.content)
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        if behaviour.etag:
            self.send_header("ETag", behaviour.etag)
        if behaviour.modified:
            self.send_header("Last-Modified", behaviour.modified)
        if behaviour.announced:
            self.send_header("Content-Length", str(len(content)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        drop = behaviour.drop_after.pop(0) if behaviour.drop_after else None
        with contextlib.suppress(ConnectionError):
            self._write(behaviour, content if drop is None else content[:drop], whole=drop is None)

    def _write(self, behaviour, content, whole):
        if behaviour.announced:
            self.wfile.write(content)
            return
        for start in range(0, len(content), 1000):
            piece = content[start : start + 1000]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n" if whole else b"ff\r\n")  # a chunk is promised that never comes


@contextlib.contextmanager
def serving():
    """A server; ``add(path, content, ...)`` returns the address and the behaviour of a path."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.paths = {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def add(path, content, **behaviour):
        server.paths[path] = Behaviour(content, **behaviour)
        return f"http://127.0.0.1:{server.server_port}{path}", server.paths[path]

    try:
        yield add
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
