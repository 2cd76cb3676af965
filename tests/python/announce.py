"""Runs a server that says nothing of itself, and prints `ready PORT` once something listens on that port.

usage: announce.py PORT PROGRAM [ARGUMENT ...]
The server is this process; a child that it forks off before does the looking, and ends.
"""

import os
import socket
import sys
import time

port = int(sys.argv[1])
if os.fork() == 0:
    if os.fork() != 0:
        os._exit(0)
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                print(f"ready {port}", flush=True)
                break
        # Nothing announces that a stranger's socket listens.
        time.sleep(0.1)
    os._exit(0)
os.wait()
os.execvp(sys.argv[2], sys.argv[2:])
