"""A receiver to try webhooks with: it verifies what comes to http://127.0.0.1:9000 and prints it.

    WEBHOOK_SECRET=whsec_… python docs/webhooks/receive.py

It answers before it does anything with the event, and remembers the ids that it has seen, as yours should.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from verify import verify_headers

SECRET = os.environ["WEBHOOK_SECRET"]
seen: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        id, timestamp, signature = (
            self.headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
        )
        genuine = verify_headers(SECRET, id, timestamp, signature, body)
        self.send_response(204 if genuine else 401)
        self.end_headers()
        if genuine and id not in seen:
            seen.add(id)
            event = json.loads(body)
            print("verified", id, event["event"], json.dumps(event["data"]), flush=True)
        elif not genuine:
            print("NOT GENUINE", id, flush=True)

    def log_message(self, *_: object) -> None:
        """The prints above are enough."""


if __name__ == "__main__":
    port = int(sys.argv[1]) if sys.argv[1:] else 9000
    print(f"receiving at http://127.0.0.1:{port}", flush=True)
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()
