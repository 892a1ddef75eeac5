"""Two choices: the fuller of two drawn replicas is never taken, and the fullest holds far fewer than with one draw."""

from types import SimpleNamespace

import numpy as np
from small_cluster import Line, random_requests

from dcsim.policies.routers import Router


def test_the_fullest_replica_is_hardly_fuller_than_the_mean():
    """Of n requests over n replicas the fullest has ln n / ln ln n by one draw, ln ln n / ln 2 by two: 6 and 3 for 1,000."""
    router = Router("two_choices", 1000)
    for index in range(1000):
        router.change(router.choose(SimpleNamespace(index=index, session=-1)), 1)
    assert sum(router.loads) == 1000
    assert max(router.loads) <= 4


def test_it_serves(serve_small):
    table = random_requests(200, 400, 3)
    served = serve_small(table, Line(), replicas=4, settings=["serving.router=two_choices"]).tables["requests"]
    assert set(served["status"]) == {"finished"}
    assert np.bincount(served["replica"]).min() > 30
