"""Where chips stand, as a picture needs it."""

import numpy as np
import pytest

from dcsim.results.hall import CHIPS_MAX, hall, places
from dcsim.spec.load import load
from dcsim.study.iteration import shape_of
from dcsim.study.machine import build
from dcsim.study.standing import standing


def test_every_chip_has_its_place_and_spares_have_no_figures():
    found = standing("64chip")
    chips = found["chips"]
    assert len(chips["chip"]) == 64
    assert all(len(column) == 64 for column in chips.values())
    assert len(set(zip(*places(chips), strict=True))) == 64
    assert sum(len(cables) for cables in found["links_of"].values()) == 8 * 28, "all chips of a node are joined to all"
    for name in ("stage", "use", "links", "queue", "kv"):
        assert [value is None for value in chips[name]] == [not active for active in chips["active"]]
    assert all(0 < value < 1 for value in chips["use"])


def test_packets_queue_before_links_and_scheduled_vectors_do_not():
    assert set(standing("64chip")["chips"]["queue"]) == {0.0}
    queues = standing("64chip", "ethernet-100g")["chips"]["queue"]
    machine = build(load("64chip", network="ethernet-100g").spec)
    longest = machine.network.link_queue_bytes(shape_of(1, None, 0, machine.spec.llm))
    assert max(queues) == float(f"{longest.max():.5g}") > 0


def test_many_chips_are_drawn_node_by_node():
    count = CHIPS_MAX + 8
    chips = {
        "chip": list(range(count)),
        "node": [i // 8 for i in range(count)],
        "rack": [i // 64 for i in range(count)],
        "active": [True] * count,
    }
    (drawn,) = hall(chips, [float(i // 8) for i in range(count)], "x", "").data
    assert len(drawn.x) == count // 8
    assert np.allclose(drawn.marker.color, np.arange(count // 8))


@pytest.mark.parametrize(
    ("values", "span", "scale"),
    [
        ([1.0, 3.0, None], None, (1.0, 3.0)),
        ([15832.6, 15832.7, 15832.6], None, (0.0, 15832.7)),  # a hundredth of a watt is no difference
        ([15832.6, 15832.7, 15832.6], (13e3, 17e3), (13e3, 17e3)),
        ([0.0, 0.0, 0.0], None, (0.0, 1.0)),
    ],
)
def test_colours_tell_differences_that_are_some(values, span, scale):
    chips = {"chip": [0, 1, 2], "node": [0, 0, 0], "rack": [0, 0, 0], "active": [True, True, True]}
    marker = hall(chips, values, "x", "W", span=span).data[0].marker
    assert (marker.cmin, marker.cmax) == scale
