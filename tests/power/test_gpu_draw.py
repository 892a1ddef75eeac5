"""What GPUs draw while they decode, by their states at work and the time between iterations, against what others measured."""

import pytest
from by_rule import load

from dcsim.llm.program import Shape
from dcsim.study.machine import build

# ml-energy/leaderboard-v2 @c3af7f3, chat, vLLM 0.5.4, September 2024, NVML: LLM, tp, batch, context, ms a token, watts a GPU.
MEASURED = {
    "8B on one H100": ("llama-3.1-8b", 1, 64, 600, 35.1, 305),
    "70B on four H100": ("llama-3.1-70b", 4, 256, 600, 138.0, 283),
}


@pytest.mark.parametrize("name", MEASURED)
def test_decoding_draws_little_because_the_engine_leaves_chips_waiting(name):
    """At the pace that was measured, a chip works a fifth of the time; no figure is fixed on these rows."""
    llm, tp, batch, context, step_ms, watts = MEASURED[name]
    settings = [f"mapping.tp={tp}", "mapping.weights=bf16", "mapping.activations=bf16", "network.replications=1"]
    machine = build(load("h100_sxm", llm=llm, settings=settings).spec)
    time = machine.time(Shape(batch, context))
    wait_w, step_s = machine.spec.chip.power.wait_w, step_ms * 1e-3
    assert time.latency_ps * 1e-12 < 0.4 * step_s
    assert wait_w + time.work_j / tp / step_s == pytest.approx(watts, rel=0.25)


def test_a_b200_at_its_own_pace_draws_between_waiting_and_its_limit():
    machine = build(load("b200_sxm", settings=["network.replications=1"]).spec)
    time = machine.time(Shape(64, 2048))
    watts = machine.spec.chip.power.wait_w + time.work_j / 8 / (time.latency_ps * 1e-12)
    assert 400 < watts < 1000  # 452 to 943 W in public serving runs of 2026 (SemiAnalysis InferenceX)
