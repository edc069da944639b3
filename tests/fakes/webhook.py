"""A server on loopback that takes messages as Slack does, and keeps them."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

PATH = "/services/T024/B061/hush"  # who knows it may send


class Message(NamedTuple):
    path: str
    headers: dict[str, str]
    body: Any  # JSON


class Webhook:
    """What arrived, and what the answer is; a test may change the latter."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}{PATH}"
        self.messages: list[Message] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.pause = 0.0  # seconds before each byte of the answer

    @property
    def texts(self) -> list[str]:
        """The lines that arrived; each request was a POST of nothing but that, to the right path."""
        assert {message.path for message in self.messages} <= {PATH}
        assert {message.headers["Content-Type"] for message in self.messages} <= {"application/json"}
        assert {tuple(message.body) for message in self.messages} <= {("text",)}
        return [message.body["text"] for message in self.messages]


@contextmanager
def open_webhook() -> Iterator[Webhook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            webhook.messages.append(Message(self.path, dict(self.headers), json.loads(body)))
            if webhook.pause:
                return self._trickle()
            self.send_response(webhook.status)
            for name, value in webhook.headers.items():
                self.send_header(name, value)
            self.end_headers()
            return self.wfile.write(b"ok")

        def _trickle(self) -> None:
            for byte in b"HTTP/1.1 200 OK\r\nX-Trickle: 1\r\n\r\nok":
                time.sleep(webhook.pause)
                try:
                    self.wfile.write(bytes([byte]))
                except OSError:  # who sent the message has gone
                    return

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        webhook = Webhook(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield webhook
        finally:
            server.shutdown()
            thread.join()
