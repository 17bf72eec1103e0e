"""A proxy that writes down every request and its answer, one line of JSON each."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# A request with this header gets an empty object for its answer: whoever validates answers must notice.
SPOIL = "X-Spoil-Answer"
# What belongs to one connection and is said anew on the next one.
HOP = {"connection", "keep-alive", "transfer-encoding", "date", "server"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Recorder"

    def handle_one(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        connection = HTTPConnection(self.server.upstream, timeout=30)
        sent = [(name, value) for name, value in self.headers.items() if name.lower() not in HOP]
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent:
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        given = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP]
        if SPOIL in self.headers:
            content = b"{}"
            given = [(name, value) for name, value in given if name.lower() != "content-length"]
            given.append(("Content-Length", str(len(content))))
        self.server.keep(
            {
                "method": self.command,
                "path": self.path,
                "headers": sent,
                "body": body.decode(),
                "status": answer.status,
                "answer_headers": given,
                "answer": content.decode(),
            }
        )
        self.send_response_only(answer.status, answer.reason)
        for name, value in given:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = handle_one  # noqa: N815

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: what came is in the file."""


class _Recorder(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: str, file: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.file = file
        self.lock = threading.Lock()

    def keep(self, exchange: dict[str, Any]) -> None:
        with self.lock, self.file.open("a") as out:
            out.write(json.dumps(exchange) + "\n")


@contextmanager
def recording(url: str, file: Path) -> Iterator[str]:
    """The address under which a server can be called so that ``file`` gets all that is said."""
    parts = urlsplit(url)
    file.write_text("")
    recorder = _Recorder(parts.netloc, file)
    thread = threading.Thread(target=recorder.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{recorder.server_port}{parts.path}"
    finally:
        recorder.shutdown()
        recorder.server_close()
        thread.join()
