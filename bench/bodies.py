"""What gateway requests take on the disk beside their bodies, a minute of quiet after the last.

    python -m bench.bodies [REQUESTS]

Chat requests of 2.4 KB and answers of 0.6 KB of words (`bench.spans`), each of its own, through `pilothouse up` with
everything on. The wire is the clients': bodies sent and answered, without headers.
"""

import http.client
import itertools
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from bench import product
from bench.ingest import SETTLE_S, taken
from bench.spans import Traces

CLIENTS = 4
MADE = 2_000  # texts of each kind; a request's is one of them behind a number and before another's beginning


class _Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    texts: list[str] = []  # noqa: RUF012  # set once, before it serves
    numbers = itertools.count()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        n = next(self.numbers)
        body = json.dumps(
            {
                "id": f"chatcmpl-{n}", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini-2024-07-18",
                "choices": [{"index": 0, "finish_reason": "stop",
                             "message": {"role": "assistant", "content": _text(self.texts, n)}}],
                "usage": {"prompt_tokens": 600, "completion_tokens": 150, "total_tokens": 750},
            }
        ).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _text(texts: list[str], n: int) -> str:
    """One that no other number has."""
    return f"{n} {texts[n % MADE]} {texts[n // MADE % MADE]}"


def main(requests: int) -> str:
    """A line of figures."""
    traces = Traces()
    _Provider.texts = [traces.text(300) for _ in range(MADE)]
    prompts = [traces.text(1_200) for _ in range(MADE)]
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with product.running(f"http://127.0.0.1:{server.server_port}") as one:
            empty = taken(one.data)
            wire = _ask(one, prompts, requests)
            time.sleep(SETTLE_S)
            stored = taken(one.data) - empty
    finally:
        server.shutdown()
        server.server_close()
    return (
        f"{requests:,} requests of {wire / requests:,.0f} bytes with their answers: {stored / requests:,.0f} "
        f"bytes each on the disk, {stored / wire:.2f} of the wire"
    )


def _ask(one: product.Product, prompts: list[str], requests: int) -> int:
    """Ask them all; bytes of bodies sent and answered."""
    numbers, wire, lock = iter(range(requests)), [0], threading.Lock()
    headers = {"content-type": "application/json", "authorization": f"Bearer {one.key}"}

    def work() -> None:
        connection = http.client.HTTPConnection(str(urlsplit(one.gateway).netloc), timeout=60)
        while True:
            with lock:
                n = next(numbers, None)
            if n is None:
                break
            said = [{"role": "user", "content": _text(prompts, n)}]
            body = json.dumps({"model": "bench", "messages": said}).encode()
            connection.request("POST", "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"the gateway answered {answer.status}: {text[:200]!r}")
            with lock:
                wire[0] += len(body) + len(text)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wire[0]


if __name__ == "__main__":
    print(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
