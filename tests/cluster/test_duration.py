"""A run lasts as long as its workload, not until its last request; rates and energy are over that time."""

import pytest

from dcsim.study.scenario import load

WORKLOADS = {
    "replay": "kind: replay\ntrace: azure-2023-conv.csv.gz\nduration: {}\nrequests: 5\n",
    "closed": "kind: closed\nusers: 2\nthink: 1 s\nrequests_per_user: 2\nduration: {}\n"
    "lengths: {{kind: lognormal, prompt_tokens: {{median: 50}}, output_tokens: {{median: 5}}}}\n",
}


@pytest.fixture
def served(tmp_path):
    def run(kind, duration, **options):
        path = tmp_path / "w.yaml"
        path.write_text(WORKLOADS[kind].format(duration))
        return load("64chip", workload=str(path), **options).run(seed=1)

    return run


@pytest.mark.parametrize("kind", WORKLOADS)
def test_a_run_ends_at_its_duration(served, kind):
    run = served(kind, "60 s")
    assert run.summary["elapsed_s"] == 60
    assert run.requests["finished_s"].max() < 50
    power = run.table("power")
    assert power["time_s"].max() == 60
    assert run.summary["output_tokens_per_s"] == pytest.approx(run.requests["output_tokens"].sum() / 60)


def test_twice_the_duration_adds_what_idle_racks_draw_and_halves_the_rate(served):
    short, long = served("replay", "60 s"), served("replay", "120 s")
    idle_w = long.table("power").query("time_s == 120")["power_w"].sum() * long.spec["power"]["pue"]
    for name in ("output_tokens_per_s", "goodput_requests_per_s"):
        assert long.summary[name] == pytest.approx(short.summary[name] / 2)
    energy_j = [run.summary["power_w_mean"] * run.summary["elapsed_s"] for run in (short, long)]
    assert energy_j[1] - energy_j[0] == pytest.approx(60 * idle_w, rel=1e-6)


def test_whoever_serves_it_lasts_as_long(served):
    digests = {served("replay", "60 s", set=[f"engine={engine}"]).summary["digest"] for engine in ("simpy", "compiled")}
    assert len(digests) == 1


def test_what_is_not_done_at_its_end_is_drained_first(served):
    """One sequence at a time: the duration is over before the last request is."""
    run = served("replay", "3 s", set=["serving.sequences_max=1"])
    assert run.summary["requests_in_flight"] == 0
    assert run.summary["elapsed_s"] == pytest.approx(max(3.0, run.requests["finished_s"].max()), abs=1e-9)
