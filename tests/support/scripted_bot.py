"""A bot that does what its session's body says, without Pipecat: it starts in 50 ms.

Body: ``join`` (default true: /readyz answers 200), ``end`` ({"reason", "message"}: the termination message) and
``code``: the exit code; ends at once when ``now`` is true, else on SIGTERM, which ``deaf`` ignores.
"""

import http.server
import json
import os
import signal
import sys
import threading
from pathlib import Path

body = json.loads(Path(os.environ["PIPECAT_SESSION_BODY_FILE"]).read_text()) or {}
over = threading.Event()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if body.get("join", True) and self.path == "/readyz" else 503)
        self.end_headers()


def end(*_: object) -> None:
    over.set()


signal.signal(signal.SIGTERM, signal.SIG_IGN if body.get("deaf") else end)
server = http.server.ThreadingHTTPServer((os.environ["POD_IP"], 8080), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
while not (body.get("now") or over.is_set()):
    over.wait(0.1)
if "end" in body:
    Path(os.environ["PIPECAT_TERMINATION_MESSAGE_PATH"]).write_text(json.dumps(body["end"]))
elif over.is_set():
    said = {"reason": "Stopped", "message": "SIGTERM"}
    Path(os.environ["PIPECAT_TERMINATION_MESSAGE_PATH"]).write_text(json.dumps(said))
sys.exit(body.get("code", 0))
