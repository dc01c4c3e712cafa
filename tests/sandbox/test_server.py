"""The fork server as a process of its own, with what a trainer never gives it."""

import os
import socket
import subprocess
import sys

from rlvr.sandbox import server

UNFORKING = """
import os, socket, sys
from types import SimpleNamespace
from rlvr.sandbox import server

def refused():
    raise OSError("no more processes")

server.kernel.fork = refused
control = socket.socket(fileno=os.dup2(int(sys.argv[1]), 9))
os.close(int(sys.argv[1]))
server.serve(control, SimpleNamespace(make_ready=lambda limits: None, renew=lambda: None))
"""


def test_a_fork_that_fails_is_told_and_the_server_goes_on():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, open(os.devnull) as file:
        command = [sys.executable, "-c", UNFORKING, str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
            theirs.close()
            for _ in range(2):
                socket.send_fds(ours, [server.ORDER.pack(0, 1, 1, 1)], [file.fileno()])
                assert server.ENDS[server.ENDED.unpack(ours.recv(99))[0]] == "unforked"
            ours.close()
            assert process.wait(20) == 0


AT_EACH_NUMBER = """
import os
from rlvr.sandbox.local import LocalSandbox

for _ in range(8):
    box = LocalSandbox()
    assert [box.run(f"print({n})", wall_s=60).stdout for n in range(2)] == ["0\\n", "1\\n"]
    box.close()
    os.open(os.devnull, os.O_RDONLY)
"""


def test_a_server_may_have_its_socket_at_any_number():
    done = subprocess.run([sys.executable, "-c", AT_EACH_NUMBER], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
