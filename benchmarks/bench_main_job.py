"""The command line as a user meets it, process start included."""

import sys
import tempfile
from pathlib import Path

from benchmarks.measure import command, row

SMALL = """kind: synthetic
requests: {requests}
arrivals: {{rate: {{kind: constant, mean: 5 requests/s}}}}
lengths: {{kind: lognormal, prompt_tokens: {{median: 512}}, output_tokens: {{median: 128}}}}
"""


def main() -> None:
    """Help, the main job, the main job under load, and small jobs, which are nearly all start-up."""
    dcsim = [sys.executable, "-m", "dcsim"]
    usage = command([*dcsim, "--help"])
    row("dcsim --help", f"{usage.wall_s:.2f} s", "0.2 s")
    with tempfile.TemporaryDirectory() as folder:
        job = [*dcsim, "run", "topologies/8rack.yaml", "--out", f"{folder}/run"]
        for name, extra in (("main job", []), ("main job, 20 x the traffic", ["--rate-scale", "20"])):
            usage = command(job + extra)
            row(name, f"{usage.wall_s:.2f} s {usage.memory_mb:.0f} MB", "4 s, 500 MB")
        for requests in (1_000, 10_000):
            small = Path(folder) / "small.yaml"
            small.write_text(SMALL.format(requests=requests))
            usage = command([*job, "--workload", str(small)])
            row(f"{requests:,} requests of 512 and 128 tokens", f"{usage.wall_s:.2f} s {usage.cpu_s:.2f} s CPU", "1 s")
