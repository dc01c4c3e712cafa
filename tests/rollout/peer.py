"""A rollout server that misbehaves on demand: it answers vLLM's routes, and breaks where a test says so."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "secret"
ABOUT = {
    "dtype": "float32",
    "context": 256,
    "logprobs_mode": "processed_logprobs",
    "vocabulary": 47,
    "lora_rank": None,
}


class Peer:
    """`breaks[route]` is a function of (number of the call, body): a status, or None where all is well."""

    def __init__(self):
        self.breaks = {}
        self.about = dict(ABOUT)
        self.calls = []
        self.label = "default"
        self.loaded = None
        self.is_paused = False
        self.sampling = self.most_sampling = 0
        self.seconds = 0.02
        self.change = lambda number, choices: choices
        self._lock = threading.Lock()

    def answer(self, route, body):
        """(status, JSON) of a call."""
        with self._lock:
            number = sum(name == route for name, _ in self.calls)
            self.calls.append((route, body))
        status = self.breaks.get(route, lambda number, body: None)(number, body)
        if status is not None:
            return status, {"error": "broken on purpose"}
        return 200, self._done(route, body, number)

    def _done(self, route, body, number):
        if route == "/collective_rpc":
            return {"results": [self.about if body["method"] == "rlvr_about" else None]}
        if route == "/pause":
            self.is_paused = True
        if route == "/update_weights":
            self.loaded = body["update_info"]["path"]
        if route == "/update_weight_version":
            self.label = body["new_version"]
        if route == "/resume":
            self.is_paused = False
        if route == "/inference/v1/generate":
            return self._sampled(body, number)
        return {}

    def _sampled(self, body, number):
        with self._lock:
            self.sampling += 1
            self.most_sampling = max(self.most_sampling, self.sampling)
        time.sleep(self.seconds)
        asked = body["sampling_params"]
        choices = [
            {
                "index": i,
                "finish_reason": "length",
                "token_ids": [(asked["seed"] + i + j) % 40 for j in range(asked["max_tokens"])],
                "logprobs": {"content": [{"logprob": -1.0}] * asked["max_tokens"]},
                "weight_versions": [{"version": self.label, "start": 0, "end": asked["max_tokens"]}],
            }
            for i in range(asked["n"])
        ]
        with self._lock:
            self.sampling -= 1
        return {"choices": self.change(number, choices)}


@contextmanager
def peer():
    """A peer that listens; its address is in `url`."""
    one = Peer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            health = one.breaks.get("/health", lambda number, body: None)(0, None)
            self._reply(health or 200, {"weight_version": one.label})

        def do_POST(self):
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.headers.get("authorization") != f"Bearer {KEY}":
                self._reply(401, {"error": "key"})
                return
            status, found = one.answer(self.path.partition("?")[0], json.loads(raw) if raw else None)
            if status == "cut":
                self.close_connection = True
                self.connection.close()
                return
            self._reply(status, found)

        def _reply(self, status, found):
            data = json.dumps(found).encode()
            try:
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # who asked has left

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    one.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield one
    finally:
        server.shutdown()
        server.server_close()
