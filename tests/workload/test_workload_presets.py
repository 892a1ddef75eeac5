"""Every shipped workload gives requests of the shape its description promises."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from dcsim.library import names, root
from dcsim.spec.document import read_document
from dcsim.spec.workload import WorkloadSpec
from dcsim.workload.describe import describe
from dcsim.workload.generate import make_requests


def preset(name, **more):
    document = read_document(root() / "workloads" / f"{name}.yaml")
    return TypeAdapter(WorkloadSpec).validate_python({**document.data, **more})


@pytest.mark.parametrize("name", names("workloads"))
def test_every_preset_makes_requests(name):
    spec = preset(name, duration="5 min", rate_scale=2)
    requests = make_requests(spec, 1)
    assert spec.name == name
    assert spec.description
    assert len(requests) > (100 if name != "glimpse" else 11)
    assert requests.arrival_s[-1] < 300


def test_glimpse_is_a_dozen_short_questions_that_one_chunk_reads():
    requests = make_requests(preset("glimpse"), 1)
    assert len(requests) == 12
    assert requests.prompt_tokens.max() <= 128
    assert requests.output_tokens.max() <= 32
    assert requests.arrival_s[-1] < 0.2


def test_million():
    requests = make_requests(preset("million"), 1)
    seen, chat = describe(requests), describe(make_requests(preset("chat"), 1))
    assert seen.requests == 1_000_000
    assert seen.rate_per_s == pytest.approx(18, rel=0.03)
    for column in ("prompt_tokens", "output_tokens"):
        drawn, traced = getattr(seen, column), getattr(chat, column)
        assert (drawn.mean, drawn.p50, drawn.p90) == pytest.approx((traced.mean, traced.p50, traced.p90), rel=0.04)


def test_day_swings_like_the_traced_hour():
    requests = make_requests(preset("day"), 1)
    assert len(requests) == pytest.approx(475_200, rel=0.05)
    hour = np.bincount((requests.arrival_s // 3600).astype(int))
    assert hour.argmax() in range(9, 17)
    noon = requests.arrival_s[(requests.arrival_s >= 36_000) & (requests.arrival_s < 57_600)]
    rates = np.bincount(((noon - 36_000) // 60).astype(int)) / 60
    assert 0.15 < rates.std() / rates.mean() < 0.27


def test_vendor_presets_have_their_lengths():
    summarise, speech, image = (describe(make_requests(preset(n), 1)) for n in ("summarise", "speech", "multimodal"))
    assert (summarise.prompt_tokens.mean, summarise.output_tokens.mean) == (2096, 130)
    assert (speech.prompt_tokens.max, speech.output_tokens.max <= 224) == (4, True)
    assert 60 < speech.output_tokens.p50 < 150
    assert image.prompt_tokens.p50 == pytest.approx(616, abs=10)
    assert summarise.rate_per_s == pytest.approx(0.5, rel=0.25)


def test_sessions_match_the_traced_rate():
    requests = make_requests(preset("sessions"), 1)
    late = requests.arrival_s > 600  # past the first conversations' ramp
    assert late.sum() / 3000 == pytest.approx(5.2, rel=0.15)
    assert describe(requests).prefix_tokens > 0.5 * describe(requests).prompt_tokens.total
