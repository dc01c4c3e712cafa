"""An executor over HTTP, for tests alone: it answers as SandboxFusion and Piston do."""

import http.server
import json
import subprocess
import sys
import threading
from contextlib import contextmanager


@contextmanager
def executor():
    """Its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Executor)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


class Executor(http.server.BaseHTTPRequestHandler):
    """Runs the program plainly."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_piston = self.path == "/api/v2/execute"
        source = asked["files"][0]["content"] if is_piston else asked["code"]
        timeout_s = asked["run_timeout"] / (1000 if is_piston else 1)
        if "BREAK" in source:
            return self.answered(500, {"message": "broken"})
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", source],
                input=asked["stdin"],
                capture_output=True,
                text=True,
                timeout=timeout_s,
            )
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            code, out, err = None, "", ""
        if is_piston:
            ended = {"code": code, "signal": "SIGKILL" if code is None else None}
            return self.answered(200, {"language": "python", "run": {**ended, "stdout": out, "stderr": err}})
        status = "TimeLimitExceeded" if code is None else "Finished"
        run = {"status": status, "return_code": code, "stdout": out, "stderr": err}
        whole = {"status": "Success" if code == 0 else "Failed", "message": "", "run_result": run}
        if "FAULT" in source:
            whole = {"status": "SandboxError", "message": "no pod", "run_result": None}
        return self.answered(200, whole)

    def answered(self, code, body):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass
