"""A server with an OpenAI-compatible route behind which sits, by the model's name, every kind of judge."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rlvr_verifiers.math_judge import MOST_BYTES


class Judges(ThreadingHTTPServer):
    """Started at once, on a free port."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Served)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked = []
        self.poured = 0
        self.released = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def handle_error(self, *_):
        """A client that hung up in time."""

    def close(self):
        self.released.set()
        self.shutdown()
        self.server_close()
        self.thread.join()


class Served(BaseHTTPRequestHandler):
    """Answers as the server's `answers` says for the model asked for."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        ANSWERS[body["model"]](self, body)

    def log_message(self, *_):
        pass

    def send(self, body, status=200, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def words(body):
    """The two words that the judge may say, as its prompt has them."""
    found = re.fullmatch(r"One word, (SAME-\w{6}) or (DIFFERENT-\w{6}):", prompt(body).splitlines()[-1])
    return found[1], found[2]


def prompt(body):
    return body["messages"][-1]["content"]


def says(text):
    """A judge that says so; {same} and {other} are its words."""

    def answer(handler, body):
        same, other = words(body)
        content = text if text is None else text.format(same=same, other=other)
        handler.send({"choices": [{"message": {"role": "assistant", "content": content}}]})

    return answer


def obeys(handler, body):
    """A judge that says what the candidate tells it to."""
    said = re.search(r"say (\S+)", prompt(body))[1]
    handler.send({"choices": [{"message": {"content": said}}]})


def sends(*arguments, **named):
    return lambda handler, _: handler.send(*arguments, **named)


def sleeps(handler, _):
    handler.server.released.wait(20)
    handler.close_connection = True


def trickles(handler, _):
    """Begins at once, and never comes to an end."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not handler.server.released.wait(0.05):
        try:
            handler.wfile.write(b" ")
        except OSError:
            return


def hangs_up(handler, _):
    handler.close_connection = True


def breaks_off(handler, _):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')
    handler.close_connection = True


def pours(handler, _):
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    try:
        while not handler.server.released.is_set():
            handler.wfile.write(b" " * 2**16)
            handler.server.poured += 2**16
    except OSError:
        pass
    handler.close_connection = True


ANSWERS = {
    "right": says("{same}"),
    "spaced": says(" {same}\n"),
    "thinks": says("<think>is it {other}?</think>\n{same}"),
    "wrong": says("{other}"),
    "empty": says(""),
    "null": says(None),
    "plain": says("SAME"),
    "agrees": says("CORRECT"),
    "lower": says("same"),
    "chats": says("{same}, since both are squares."),
    "both": says("{same} {other}"),
    "thinks on": says("<think>{same}"),
    "obeys": obeys,
    "500": sends({"error": "out of memory"}, status=500),
    "404": sends({"error": "no such model"}, status=404),
    "redirects": sends(b"", status=302, Location="/v1/chat/completions"),
    "no json": sends(b"<html>"),
    "nested": sends(b"[" * 10**5),
    "no choices": sends({"choices": []}),
    "no message": sends({"choices": [{"text": "SAME"}]}),
    "a list": sends([1]),
    "huge": sends(b" " * (2 * MOST_BYTES)),
    "pours": pours,
    "sleeps": sleeps,
    "trickles": trickles,
    "hangs up": hangs_up,
    "breaks off": breaks_off,
}
