"""Whose requests stand in a table gives the table: columns by name, dates recognised, or one clear question. Rates to order."""

import numpy as np
import pytest

from dcsim.errors import SpecError, WorkloadError
from dcsim.spec.load import load as load_spec
from dcsim.study.scenario import load
from dcsim.study.workload import workload
from dcsim.workload.closed import make_closed_loop
from dcsim.workload.generate import make_requests, own_rate_per_s

KINDS = ("chat", "million", "sessions", "day", "code")


def requests(path, *settings):
    return make_requests(load_spec("node", workload=str(path), settings=settings).spec.workload, 1)


@pytest.mark.parametrize(
    ("text", "arrivals"),
    [
        ("arrival_s,prompt_tokens,output_tokens\n0,5,2\n1.5,6,3\n", [0, 1.5]),
        ("Arrival (ms),Input Tokens,Output Tokens\n0,5,2\n1500,6,3\n", [0, 1.5]),
        ("output_len,timestamp,prompt_len\n2,2024-03-01 10:00:00,5\n3,2024-03-01 10:00:01.5,6\n", [0, 1.5]),
        ("createdAt,inputTokens,completion_tokens\n2024-03-01T10:00:00Z,5,2\n2024-03-01T10:00:01.5Z,6,3\n", [0, 1.5]),
        ("time,prompt,response\n1700000000,5,2\n1700000002,6,3\n", [0, 2]),
        ("time,prompt,response\n1700000000000,5,2\n1700000001500,6,3\n", [0, 1.5]),
        ("t,input,output,user\n0.25,5,2,a\n1.75,6,3,b\n", [0, 1.5]),
    ],
)
def test_columns_are_told_by_their_names(tmp_path, text, arrivals):
    path = tmp_path / "my.csv"
    path.write_text(text)
    found = requests(path)
    assert found.arrival_s.tolist() == pytest.approx(arrivals)
    assert (found.prompt_tokens.tolist(), found.output_tokens.tolist()) == ([5, 6], [2, 3])


@pytest.mark.parametrize(
    ("header", "question"),
    [
        ("when,prompt,output", r"which column holds the time of arrival\? It has 'when'"),
        ("time,timestamp,prompt,output", r"which column holds the time of arrival: 'time' or 'timestamp'\?"),
        ("time,words,output", "which column holds the prompt's tokens"),
        ("time,prompt,words", "which column holds the answer's tokens"),
    ],
)
def test_what_cannot_be_told_is_one_question_whose_answer_works(tmp_path, header, question):
    path = tmp_path / "my.csv"
    path.write_text(
        header + "\n" + ",".join("0.5" if i < header.count("time") else "7" for i in range(header.count(",") + 1)) + "\n"
    )
    with pytest.raises(WorkloadError, match=question) as told:
        requests(path)
    assert "\n" not in str(told.value)
    names = header.split(",")
    columns = {"arrival": names[0], "prompt_tokens": names[-2], "output_tokens": names[-1]}
    answer = [f"workload.trace.columns.{key}={name}" for key, name in columns.items()]
    if header.startswith("time"):
        assert len(requests(path, "workload.trace.format=columns", *answer)) == 1


def test_whole_numbers_without_a_unit_are_asked_for_it(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text("time,prompt,output\n0,5,2\n1500,6,3\n")
    with pytest.raises(WorkloadError, match=r"which unit .* workload.trace.arrival_unit"):
        requests(path)
    assert requests(path, "workload.trace.arrival_unit=ms").arrival_s.tolist() == [0, 1.5]


def test_a_table_is_a_workload_wherever_one_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,5,2\n1.5,6,3\n")
    by_option = load_spec("node", workload="my.csv").spec.workload
    assert by_option == load_spec("node", settings=["workload=my.csv"]).spec.workload
    assert (by_option.name, by_option.kind) == ("my", "replay")
    assert workload("my.csv")["requests"] == 2
    with pytest.raises(WorkloadError, match=r"no trace file 'other.csv'"):
        requests("other.csv")


@pytest.mark.parametrize("name", KINDS)
def test_a_rate_is_what_the_requests_come_at(name):
    spec = load("node", workload=name, rate="40/s", set=["workload.requests=4000"]).spec.workload
    assert own_rate_per_s(spec) == pytest.approx(40)
    if spec.kind == "replay":
        found = make_requests(load("node", workload=name, rate="40/s").spec.workload, 1)
        assert len(found) / found.arrival_s[-1] == pytest.approx(40, rel=0.01)


def test_a_rate_is_refused_where_there_is_none():
    for text in ("0/s", "-1/s", "5", "5 s", "fast"):
        with pytest.raises(SpecError, match="--rate"):
            load("node", rate=text)
    with pytest.raises(SpecError, match="beside --rate-scale"):
        load("node", rate="1/s", rate_scale=2)


@pytest.mark.parametrize("name", ["chat", "million", "sessions"])
def test_output_scale_makes_answers_longer_and_moves_no_arrival_nor_prompt(name):
    few = ["workload.requests=500"]
    one, two = (requests(name, *few, f"workload.output_scale={scale}") for scale in (1, 2))
    tiny = requests(name, *few, "workload.output_scale=0.0001")
    assert (tiny.output_tokens == 1).all()
    if name == "sessions":  # a conversation's later prompts hold the answers before
        assert two.output_tokens.mean() > 1.2 * one.output_tokens.mean()
        return
    assert np.array_equal(two.output_tokens, 2 * one.output_tokens)
    assert np.array_equal(one.arrival_s, two.arrival_s)
    assert np.array_equal(one.prompt_tokens, two.prompt_tokens)


def test_output_scale_reaches_users_of_a_closed_loop(tmp_path):
    path = tmp_path / "w.yaml"
    path.write_text(
        "kind: closed\nusers: 2\nthink: 1 s\nlengths: {kind: lognormal, prompt_tokens: {median: 9}, output_tokens: {median: 9}}\n"
    )
    loops = [
        make_closed_loop(load_spec("node", workload=str(path), settings=[s]).spec.workload, 1)
        for s in ("workload.output_scale=1", "workload.output_scale=3")
    ]
    assert np.array_equal(loops[1].output_tokens, 3 * loops[0].output_tokens)
