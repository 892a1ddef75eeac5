"""Conversations: growing context, shared prefixes, pauses."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from dcsim.spec.workload import SessionsWorkload
from dcsim.workload.generate import make_requests

LENGTHS = {
    "kind": "lognormal",
    "prompt_tokens": {"median": 50, "sigma": 0.5},
    "output_tokens": {"median": 100, "sigma": 0.5},
}


def sessions(**more):
    data = {
        "kind": "sessions",
        "arrivals": {"rate": {"kind": "constant", "mean": "5 requests/s"}},
        "lengths": LENGTHS,
        "turns_mean": 4,
        "think": "20 s",
        "context_max": 1_000_000,
        **more,
    }
    return make_requests(TypeAdapter(SessionsWorkload).validate_python(data), seed=1)


def turns(requests):
    """Rows grouped by conversation: (indices of turn k, indices of turn k + 1) of the same conversation."""
    order = np.lexsort((requests.arrival_s, requests.session))
    same = requests.session[order][1:] == requests.session[order][:-1]
    return order[:-1][same], order[1:][same]


def test_a_prompt_is_all_that_was_said_before_and_a_message():
    requests = sessions(duration="2 h")
    before, after = turns(requests)
    said = requests.prompt_tokens[before] + requests.output_tokens[before]
    assert len(before) > 10_000
    assert (requests.prefix_tokens[after] == said).all()
    assert (requests.prompt_tokens[after] > said).all()
    first = np.setdiff1d(np.arange(len(requests)), after)
    assert (requests.prefix_tokens[first] == 0).all()


def test_turns_are_geometric_and_pauses_as_asked():
    requests = sessions(duration="10 h", answer_token="10 ms")
    early = requests.session < 100_000  # conversations of the first hours: all of their turns are inside
    counts = np.bincount(requests.session[early])
    counts = counts[counts > 0]
    assert counts.mean() == pytest.approx(4, rel=0.03)
    assert (counts == 1).mean() == pytest.approx(1 / 4, abs=0.01)
    before, after = turns(requests)
    pause_s = requests.arrival_s[after] - requests.arrival_s[before] - 0.01 * requests.output_tokens[before]
    assert pause_s.mean() == pytest.approx(20, rel=0.02)
    assert pause_s.min() > -1e-9


def test_context_is_never_exceeded_and_every_conversation_has_a_turn():
    requests = sessions(duration="1 h", context_max=400, turns_mean=50)
    assert (requests.prompt_tokens + requests.output_tokens).max() <= 400
    assert requests.session.max() + 1 == len(np.unique(requests.session))


def test_a_rate_scale_brings_more_conversations_not_shorter_pauses():
    one, two = (sessions(duration="5 h", rate_scale=scale) for scale in (1, 2))
    assert len(two) / len(one) == pytest.approx(2, rel=0.05)
    pauses = [np.subtract(*(r.arrival_s[rows] for rows in reversed(turns(r)))).mean() for r in (one, two)]
    assert pauses[1] == pytest.approx(pauses[0], rel=0.05)


def test_turns_share_their_class():
    requests = sessions(duration="1 h", classes=[{"name": "a", "share": 1}, {"name": "b", "share": 1}])
    before, after = turns(requests)
    assert (requests.klass[before] == requests.klass[after]).all()
    assert 0.45 < requests.klass.mean() < 0.55
