"""A local server that speaks OpenAI's chat completions and plays every fault that a real one shows."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "mock-1"


def completion(text: str | None, *, model: str = MODEL, finish: str = "stop", refusal: str | None = None) -> bytes:
    """Write a response as the API does, with fields that nobody reads."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    whole = {"id": "x", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": {}}
    return json.dumps(whole).encode()


class ChatServer:
    """Answers the last line of each question in capitals, unless a fault is planned.

    Attributes:
        url: The base of its API.
        requests: The body of each request.
        keys: The ``Authorization`` of each request.
        faults: Taken one by one before anything is answered: a status with headers, bytes to send, or seconds to wait.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.faults: list[tuple[int, dict[str, str]] | bytes | float] = []
        self.url = ""

    @property
    def asked(self) -> list[str]:
        """The text of each request."""
        return [request["messages"][0]["content"][-1]["text"] for request in self.requests]

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return the class that serves this server's requests."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(body)
                server.keys.append(self.headers.get("Authorization"))
                assert self.path == "/v1/chat/completions"
                fault = server.faults.pop(0) if server.faults else None
                if isinstance(fault, tuple):
                    status, headers = fault
                    self._send(status, json.dumps({"error": {"message": "not now"}}).encode(), headers)
                    return
                if isinstance(fault, float):
                    time.sleep(fault)
                answer = fault if isinstance(fault, bytes) else completion(server.asked[-1].splitlines()[-1].upper())
                self._send(200, answer, {})

            def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(content)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


@contextlib.contextmanager
def chatting() -> Iterator[ChatServer]:
    """Run a server for as long as the block lasts."""
    server = ChatServer()
    with ThreadingHTTPServer(("127.0.0.1", 0), server.handler()) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        http.shutdown()
        thread.join()
