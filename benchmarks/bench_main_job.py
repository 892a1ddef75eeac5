"""The command line as a user meets it, process start included."""

import sys
import tempfile

from benchmarks.measure import command, row


def main() -> None:
    """Help, the main job, and the main job under load."""
    dcsim = [sys.executable, "-m", "dcsim"]
    usage = command([*dcsim, "--help"])
    row("dcsim --help", f"{usage.wall_s:.2f} s", "0.2 s")
    with tempfile.TemporaryDirectory() as folder:
        job = [*dcsim, "run", "topologies/8rack.yaml", "--out", f"{folder}/run"]
        for name, extra in (("main job", []), ("main job, 20 x the traffic", ["--rate-scale", "20"])):
            usage = command(job + extra)
            row(name, f"{usage.wall_s:.2f} s {usage.memory_mb:.0f} MB", "4 s, 500 MB")
