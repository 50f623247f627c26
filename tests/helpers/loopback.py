"""An HTTP server on the loopback whose every answer can be scripted, for the tests of fetching."""

import fcntl
import socket
import struct
import termios
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves ``files`` (path to bytes). ``script`` holds, by a path's first folder, how to answer the next requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.script: dict[str, list] = {}
        self.requests: list[tuple[str, dict]] = []  # path and headers
        self.sent = 0  # bytes of bodies
        self.gate = threading.Event()  # what stalls waits for it

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def ranges(self):
        """The Range header of each request."""
        return [headers.get("Range") for _, headers in self.requests]

    @property
    def paths(self):
        return [path for path, _ in self.requests]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        waiting = self.server.script.get(self.path.split("/")[1])
        answer = waiting.pop(0) if waiting else serve()
        answer(self, self.server.files.get(self.path))

    def send(self, code, body=b"", stop=None, then="close", **headers):
        """Headers for all of ``body``, but only the first ``stop`` bytes of it; then close, reset, stall (to go on
        when the gate opens) or hang (to close then)."""
        self.send_response(code)
        headers = {"Content_Length": len(body), **headers}
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        try:
            self.wfile.write(body[:stop])
            self.server.sent += len(body[:stop])
            if stop is not None and then in ("stall", "hang"):
                self.server.gate.wait(120)
                rest = body[stop:] if then == "stall" else b""
                self.wfile.write(rest)
                self.server.sent += len(rest)
        except OSError:  # the client has gone
            pass
        if then == "reset":
            while struct.unpack("i", fcntl.ioctl(self.connection, termios.TIOCOUTQ, b"1234"))[0]:
                time.sleep(0.001)  # until the client's side has it all: a reset drops what is still here
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_):
        pass


def serve(body=None, ranges=True, if_range=True, etag='"1"', modified=None, stop=None, then="close", **headers):
    """A file server's answer, with ``body`` for the file if given; ``ranges``, ``if_range``: whether it heeds them."""

    def answer(handler, content):
        content = content if body is None else body
        if content is None:
            return handler.send(404, b"<html>no such page</html>", Content_Type="text/html")
        common = {"Content_Type": "application/octet-stream", "ETag": etag, "Last_Modified": modified, **headers}
        wanted, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
        if not (wanted and ranges and (not if_range or condition in (None, etag, modified))):
            return handler.send(200, content, stop, then, **common)
        first = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if first >= len(content):
            return handler.send(416, Content_Range=f"bytes */{len(content)}")
        common["Content_Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        return handler.send(206, content[first:], stop, then, **(common | headers))

    return answer


def status(code, **headers):
    """An error answer."""
    return lambda handler, _: handler.send(code, b"try later", **headers)
