"""The requests of a saved run are a trace: who replays it serves the same ones."""

import dcsim as face
from dcsim.spec.workload import TraceSpec
from dcsim.workload.traces import read_trace


def test_a_run_can_be_replayed(tmp_path):
    run = face.load("64chip", duration="60 s").run(seed=1, out=tmp_path / "r")
    file = tmp_path / "r/requests.parquet"
    for form in ("dcsim", "auto"):
        trace = read_trace(file, TraceSpec(file=str(file), format=form))
        assert trace.prompt_tokens.tolist() == list(run.requests["prompt_tokens"])
        assert trace.output_tokens.tolist() == list(run.requests["output_tokens"])
    workload = tmp_path / "again.yaml"
    workload.write_text(f"name: again\nkind: replay\ntrace: {{file: {file}}}\n")
    again = face.load("64chip", workload=str(workload)).run(seed=1)
    assert again.summary["requests_in"] == run.summary["requests_in"]
