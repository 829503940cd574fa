"""Servers of HTTP in a thread, which do as a test tells them."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class WebServer:
    """A server of `files` by path; what it does wrong is set between requests."""

    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    ranges: bool = True
    etag: str | None = '"1"'
    """"new each time" is another one in each answer."""
    content_type: str = "application/x-tar"
    status: int = 0
    """Answered in place of anything else, if it is set."""
    location: str = ""
    """Of a redirect, with `status`."""
    failures: int = 0
    """Answers of 503 that come first."""
    cut_at: int | None = None
    """Byte of a file at which the connection ends."""
    cuts: int = 10**6
    """Times that it does."""
    stalls: int = 0
    """Bodies of which nothing comes."""
    trickles: bool = False
    """Whether a body comes byte after byte, as long as somebody waits."""
    secret: str = ""
    """Text without which a request is answered by 403."""
    lies: int = 0
    """Bytes that are promised and do not come."""
    head_lies: int = 0
    """Bytes by which an answer without a body promises too many."""
    shift: int = 0
    """Bytes by which a part begins and ends later than was asked for."""
    shorter: int = 0
    """Bytes by which it ends earlier."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and range of each request."""
    bye: threading.Event = field(default_factory=threading.Event)

    @property
    def bodies(self) -> list[str]:
        """The ranges that were asked for by GET."""
        return [part for method, _, part in self.asked if method == "GET"]


def _handler(server: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            part = self.headers.get("Range", "") if server.ranges else ""
            server.asked.append((self.command, self.path, self.headers.get("Range", "")))
            data = server.files.get(urlsplit(self.path).path)
            credentials = self.path + self.headers.get("Authorization", "")
            status = server.status or (404 if data is None else 403 if server.secret not in credentials else 0)
            if server.failures:
                server.failures -= 1
                status = 503
            if status or data is None:
                self.send_response(status)
                if server.location:
                    self.send_header("Location", server.location)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self._send(data, part, body)

        def _send(self, data: bytes, part: str, body: bool) -> None:
            start, stop = 0, len(data)
            if part:
                start, last = map(int, part.removeprefix("bytes=").split("-"))
                start, stop = start + server.shift, min(last + 1 + server.shift - server.shorter, len(data))
            self.send_response(206 if part else 200)
            self.send_header("Content-Type", server.content_type)
            self.send_header("Content-Length", str(stop - start + server.lies + (not body) * server.head_lies))
            if part:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
            if server.etag:
                self.send_header("ETag", f"{len(server.asked)}" if server.etag == "new each time" else server.etag)
            self.end_headers()
            if body:
                self._send_body(data[start:stop], start)

        def _send_body(self, data: bytes, start: int) -> None:
            if server.stalls:
                server.stalls -= 1
                server.bye.wait(5)
                self.close_connection = True
                return
            if server.trickles:
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    if server.bye.wait(0.02):
                        return
            cut = server.cut_at is not None and server.cuts > 0 and start + len(data) > server.cut_at
            server.cuts -= cut
            self.wfile.write(data[: max(0, (server.cut_at or 0) - start)] if cut else data)
            if cut or server.lies:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

    return Handler


@contextmanager
def web_server(files: dict[str, bytes] | None = None) -> Iterator[WebServer]:
    """Yield a server of this machine, which ends with the block."""
    state = WebServer(files or {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield state
    finally:
        state.bye.set()
        server.shutdown()
        server.server_close()


def tar_of(folder: Path, path: Path) -> Path:
    """Write a tar of a folder's files."""
    import tarfile

    with tarfile.open(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.add(file, file.relative_to(folder))
    return path
