"""Error rates against the arithmetic of the published machine and the geometric law of repeated runs."""

from __future__ import annotations

import pytest

from dcsim.network.scheduled.bit_errors import DAY_S, error_cost, link_bits_per_s


@pytest.mark.parametrize(("rate", "events_per_s"), [(1e-15, 0.63), (1e-20, 0.55 / 86_400)])
def test_events_of_a_full_machine(rate: float, events_per_s: float) -> None:
    """576 chips x 11 links x 100 Gb/s: 0.63 events a second at 1e-15, 0.55 a day at 1e-20."""
    assert link_bits_per_s(576, 11, 12.5e9) * rate == pytest.approx(events_per_s, rel=0.01)


@pytest.mark.parametrize("chips", [64, 576, 1500, 10_440])
def test_cost_grows_with_the_machine(chips: int) -> None:
    """Rare errors: replays a day = bits a second x rate x 86,400, each an iteration of time and energy."""
    hops, iteration_s, rate = chips * 1000, 3e-3, 1e-18
    cost = error_cost(rate, hops, 328, iteration_s, iteration_j=300.0)
    assert cost.replays_per_day == pytest.approx(hops * 328 * 8 / iteration_s * rate * DAY_S, rel=1e-4)
    assert cost.replay_s_per_day == pytest.approx(cost.replays_per_day * iteration_s)
    assert cost.replay_j_per_day == pytest.approx(cost.replays_per_day * 300.0)


def test_frequent_errors_repeat_geometrically() -> None:
    """A run that fails half the time is repeated once on average; certain failure never ends."""
    half = error_cost(1 - 0.5 ** (1 / 2624), 1, 328, 1e-3, 1.0)
    assert half.bits_per_iteration == 2624
    assert half.iteration_fails_fraction == pytest.approx(0.5)
    assert half.replays_per_iteration == pytest.approx(1.0)
    assert error_cost(1.0, 1, 328, 1e-3, 1.0).replays_per_iteration == float("inf")


def test_no_errors_and_no_traffic_cost_nothing() -> None:
    assert error_cost(0.0, 10**9, 328, 1e-3, 1.0).replays_per_day == 0
    assert error_cost(1e-15, 0, 328, 1e-3, 1.0).replays_per_day == 0
    assert error_cost(1e-20, 1, 328, 1e-3, 1.0).iteration_fails_fraction == pytest.approx(2624e-20)  # not rounded to 0
