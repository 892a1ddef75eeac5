"""`dcsim dashboard` as tests start it."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def served(folder):
    """`dcsim dashboard` on a folder, as its own process: the address, until the block is over."""
    code = "from dcsim.cli import main; main()"
    command = [sys.executable, "-c", code, "dashboard", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            break
    try:
        assert lines, process.stderr.read()
        yield json.loads("".join(lines))["url"]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
