"""Every format round trip, and broken rows by name."""

import gzip
import json

import pytest

from dcsim.errors import WorkloadError
from dcsim.spec.workload import ReplayWorkload, TraceSpec
from dcsim.study.workload import workload
from dcsim.workload.generate import make_requests
from dcsim.workload.traces import find_trace, read_trace

ARRIVALS = [0.0, 0.25, 1.5]
PROMPTS = [374, 396, 12]
OUTPUTS = [44, 109, 1]

AZURE_2023 = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:46.9305900,396,109
2023-11-16 18:15:48.1805900,12,1
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,374,44
2024-05-10 00:00:00.259930+00:00,396,109
2024-05-10 00:00:01.509930+00:00,12,1
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,374,44,418,Conversation log
5.1,GPT-4,900,0,900,Conversation log
5.25,GPT-4,396,109,505,API log
6.5,ChatGPT,12,1,13,Conversation log
"""
VIDUR = """arrived_at,num_prefill_tokens,num_decode_tokens
7.0,374,44
7.25,396,109
8.5,12,1
"""
MOONCAKE = "".join(
    json.dumps({"timestamp": int(1000 * t), "input_length": p, "output_length": o, "hash_ids": [0, 1]}) + "\n"
    for t, p, o in zip(ARRIVALS, PROMPTS, OUTPUTS, strict=True)
)
GENERIC = """when_ms,who,in,out
1000,"a, b",374,44
1250,c,396,109
2500,d,12,1
"""
GENERIC_COLUMNS = {"arrival": "when_ms", "arrival_unit": "ms", "prompt_tokens": "in", "output_tokens": "out"}


def read(path, **more):
    return read_trace(path, TraceSpec.model_validate({"file": str(path), **more}))


def check(trace):
    assert trace.arrival_s.tolist() == pytest.approx(ARRIVALS, abs=1e-9)
    assert trace.prompt_tokens.tolist() == PROMPTS
    assert trace.output_tokens.tolist() == OUTPUTS


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "text", "ending", "dropped"),
    [
        ("azure-2023", AZURE_2023, "csv", 0),
        ("azure-2023", AZURE_2023.replace("\n", "\r\n"), "csv", 0),
        ("azure-2024", AZURE_2024, "csv", 0),
        ("burstgpt", BURSTGPT, "csv", 1),
        ("vidur", VIDUR, "csv", 0),
        ("mooncake", MOONCAKE, "jsonl", 0),
    ],
)
def test_known_formats(tmp_path, name, text, ending, dropped, packed):
    path = tmp_path / f"trace.{ending}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    for asked in ("auto", name):
        trace = read(path, format=asked)
        check(trace)
        assert trace.dropped == dropped


def test_failed_rows_left_out_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace.csv").write_text(BURSTGPT)
    (tmp_path / "own.yaml").write_text("kind: replay\ntrace: trace.csv\n")
    assert workload("own.yaml")["failed_rows"] == 1


def test_generic_columns(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(GENERIC)
    check(read(path, format="columns", columns=GENERIC_COLUMNS))
    with pytest.raises(WorkloadError, match="no known format"):
        read(path)
    with pytest.raises(WorkloadError, match=r"no column 'outs'; did you mean 'out'\?"):
        read(path, format="columns", columns={**GENERIC_COLUMNS, "output_tokens": "outs"})


def test_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers, dates = tmp_path / "numbers.parquet", tmp_path / "dates.parquet"
    pq.write_table(
        pa.table({"arrived_at": [3.0, 3.25, 4.5], "num_prefill_tokens": PROMPTS, "num_decode_tokens": OUTPUTS}),
        numbers,
    )
    check(read(numbers))
    ns = pa.array([0, 250_000_000, 1_500_000_000], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"TIMESTAMP": ns, "ContextTokens": PROMPTS, "GeneratedTokens": OUTPUTS}), dates)
    check(read(dates))


def test_offsets_are_taken_off(tmp_path):
    path = tmp_path / "zones.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 02:00:00+02:00,374,44\n"
        "2024-05-09 23:30:00.25-00:30,396,109\n"
        "2024-05-10 00:00:01.5Z,12,1\n"
    )
    check(read(path))


def test_unsorted_rows_are_named_or_sorted_whole(tmp_path, monkeypatch):
    path = tmp_path / "unsorted.csv"
    lines = VIDUR.splitlines()
    path.write_text("\n".join([lines[0], lines[3], lines[1], lines[2]]))
    check(read(path, unsorted="sort"))
    for rows_at_once in (100, 1):  # within a block, and from one to the next
        monkeypatch.setattr("dcsim.workload.traces.BLOCK_ROWS", rows_at_once)
        with pytest.raises(WorkloadError, match=r"row 2: column 'arrived_at': 1.5 s before the row above; .*`unsorted: sort`$"):
            read(path)


def test_broken_rows_are_named(tmp_path):
    path = tmp_path / "broken.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.68,374,44\n"
        "yesterday,396,109\n"
        "2023-11-16 18:15:47,many,5\n"
        "2023-11-16 18:15:48,7,0\n"
        "2023-11-16 18:15:49,-3,5\n"
        "2023-11-16 18:15:50,2.5,5\n"
        "2023-11-16 18:15:51,1e12,5\n"
        "2023-11-16 18:15:52,8,nan\n"
    )
    with pytest.raises(WorkloadError) as caught:
        read(path)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(path)] * 7
    assert [line.split(": ")[1] for line in lines] == [f"row {n}" for n in range(2, 9)]
    assert "column 'TIMESTAMP': 'yesterday'" in lines[0]
    assert "column 'ContextTokens': 'many'" in lines[1]
    assert "column 'GeneratedTokens': '0'" in lines[2]


def test_at_most_ten_broken_rows_are_named(tmp_path):
    path = tmp_path / "broken.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n" + "0,x,1\n" * 50)
    with pytest.raises(WorkloadError) as caught:
        read(path)
    assert len(str(caught.value).splitlines()) == 10


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "short.csv",
            b"arrived_at,num_prefill_tokens,num_decode_tokens\n0,1,1\n0,1\n",
            "row 2: 2 cells instead of 3",
        ),
        (
            "blank.csv",
            b"arrived_at,num_prefill_tokens,num_decode_tokens\n\n0,1,1\n",
            "row 1: 0 cells instead of 3",
        ),
        (
            "bad.jsonl",
            b'{"timestamp": 0, "input_length": 1, "output_length": 1}\n{"tim\n',
            "row 2: not a JSON object",
        ),
        (
            "hole.jsonl",
            b'{"timestamp": 0, "input_length": 1, "output_length": 1}\n{"timestamp": 1, "input_length": 2}',
            "row 2: column 'output_length': None",
        ),
        (
            "truth.jsonl",
            b'{"timestamp": 0, "input_length": true, "output_length": 1}',
            "row 1: column 'input_length': True",
        ),
        ("empty.csv", b"", "holds no requests"),
        ("header.csv", b"arrived_at,num_prefill_tokens,num_decode_tokens\n", "holds no requests"),
        ("fake.csv.gz", b"arrived_at,num_prefill_tokens\n", "cannot be read"),
        ("cut.csv.gz", gzip.compress(VIDUR.encode(), mtime=0)[:-12], "cannot be read"),
        ("fake.parquet", b"not parquet", "cannot be read"),
        ("trace.xlsx", b"", "a trace is a .csv"),
        ("latin.csv", b"arrived_at,num_prefill_tokens,num_decode_tokens\n\xff,1,1\n", "cannot be read"),
    ],
)
def test_bad_files(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(WorkloadError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_unknown_trace_names_the_nearest():
    with pytest.raises(WorkloadError, match=r"did you mean azure-2023-conv\.csv\.gz"):
        find_trace("azure-2023-convv")


def test_one_row_and_a_day_of_one_second(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n4.5,3,2\n")
    spec = ReplayWorkload.model_validate({"kind": "replay", "trace": str(path)})
    requests = make_requests(spec, 1)
    assert (len(requests), requests.arrival_s[0], requests.prompt_tokens[0]) == (1, 0.0, 3)
    with pytest.raises(WorkloadError, match="no requests between"):
        read(path, start="1 s")
