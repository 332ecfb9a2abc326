"""The loopback listener to which the browser brings the answer of a login (RFC 8252)."""

import queue
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

PATH = "/callback"
_DONE = b"Back to the terminal: Countersign has what it needs. This page can be closed.\n"
_WRONG = b"This is not the answer to a login that was started here.\n"


class Callback:
    """Listens on loopback for one answer with the right `state`; all else is turned away."""

    def __init__(self, port: int, state: str) -> None:
        self._answers: queue.Queue[str] = queue.Queue()
        self._server = _Server(port, state, self._answers)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where the browser is sent back to."""
        return f"http://127.0.0.1:{self._server.server_port}{PATH}"

    def wait(self, timeout_s: float) -> str:
        """Return the address that the browser was sent to, with code or error in its query.

        Raises:
            TimeoutError: nobody came in time.
        """
        try:
            return self.url + "?" + self._answers.get(timeout=timeout_s)
        except queue.Empty as e:
            raise TimeoutError from e

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    """Browsers open connections in advance that say nothing; none may hold another one up."""
    block_on_close = False

    def __init__(self, port: int, state: str, answers: "queue.Queue[str]") -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self._state = state
        self._answers = answers

    def take(self, target: str) -> bool:
        """Keep an answer if it carries our `state`, which no other page can know."""
        found = urlsplit(target)
        states = parse_qs(found.query).get("state", [])
        is_ours = len(states) == 1 and secrets.compare_digest(
            states[0].encode(), self._state.encode()
        )
        if found.path != PATH or not is_ours:
            return False
        self._answers.put(found.query)
        return True


class _Handler(BaseHTTPRequestHandler):
    timeout = 10
    server: _Server

    def do_GET(self) -> None:
        is_ours = self.server.take(self.path)
        body = _DONE if is_ours else _WRONG
        self.send_response(200 if is_ours else 400)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.send_header("referrer-policy", "no-referrer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the address holds a code."""
