"""A server on the loopback address that misbehaves as told, one behaviour a request."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """How one request is answered; as it should be, unless something is set.

    Attributes:
        status: Answer with this status and no content.
        headers: Further headers.
        drop_after: Close the connection after so many bytes of the content.
        stall_after: Fall silent after so many bytes of the content.
        ignore_range: Send the whole file whatever part was asked for.
        wrong_range: Send the part that begins so many bytes too late.
        content: Send this instead.
        no_length: Do not say how long the content is.
        length: Say this of it instead.
        range: Say this of the part that is sent.
        ignore_condition: Send the part that was asked for, though the file has changed.
        stop_after: Send so many bytes as if they were all of the part.
        type: The Content-Type.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    drop_after: int | None = None
    stall_after: int | None = None
    ignore_range: bool = False
    wrong_range: int = 0
    content: bytes | None = None
    no_length: bool = False
    length: str | None = None
    range: str | None = None
    ignore_condition: bool = False
    stop_after: int | None = None
    type: str = "application/octet-stream"


class Server:
    """Files by path, the behaviours still to come, and the requests that came.

    Attributes:
        files: Content by path.
        etags: Strong validators by path; none is sent for the others.
        script: How the next requests are answered; as they should be when it is used up.
        requests: Path and headers of each request.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.script: list[Behaviour] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    @property
    def ranges(self) -> list[str | None]:
        """What part each request asked for."""
        return [headers.get("Range") for _, headers in self.requests]

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append((self.path, dict(self.headers)))
                behaviour = server.script.pop(0) if server.script else Behaviour()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    server._answer(self, behaviour)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler, behaviour: Behaviour) -> None:
        whole = self.files.get(handler.path)
        status = 404 if whole is None and behaviour.status == 200 else behaviour.status
        if whole is None or status != 200:
            handler.send_response(status)
            for name, value in behaviour.headers:
                handler.send_header(name, value)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        whole = whole if behaviour.content is None else behaviour.content
        start = self._start(handler, behaviour)
        if start >= len(whole) > 0:
            handler.send_response(416)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        self._send(handler, behaviour, whole, start)

    def _start(self, handler: BaseHTTPRequestHandler, behaviour: Behaviour) -> int:
        asked = handler.headers.get("Range")
        condition = handler.headers.get("If-Range")
        if asked is None or behaviour.ignore_range:
            return 0
        if condition not in (None, self.etags.get(handler.path)) and not behaviour.ignore_condition:
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _send(self, handler: BaseHTTPRequestHandler, behaviour: Behaviour, whole: bytes, start: int) -> None:
        if start:
            start += behaviour.wrong_range
            handler.send_response(206)
            stated = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
            handler.send_header("Content-Range", stated if behaviour.range is None else behaviour.range)
        else:
            handler.send_response(200)
        for name, value in behaviour.headers:
            handler.send_header(name, value)
        if etag := self.etags.get(handler.path):
            handler.send_header("ETag", etag)
        handler.send_header("Content-Type", behaviour.type)
        end = len(whole) if behaviour.stop_after is None else min(len(whole), start + behaviour.stop_after)
        if not behaviour.no_length:
            handler.send_header("Content-Length", str(end - start) if behaviour.length is None else behaviour.length)
        handler.end_headers()
        for limit in (behaviour.drop_after, behaviour.stall_after):
            if limit is not None:
                end = min(end, start + limit)
        handler.wfile.write(whole[start:end])
        handler.wfile.flush()
        if behaviour.stall_after is not None:
            self.closing.wait(30)
        handler.close_connection = True


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Serve until the block ends."""
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.http.shutdown()
        thread.join()
        server.http.server_close()
