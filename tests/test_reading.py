"""What users give is read, or refused in one clear line: where, what, how to mend. Nothing else ever comes up."""

import codecs
import gzip
import json
import pickle
import time

import numpy as np
import pytest

from dcsim.errors import CapacityError, DcsimError, FabricError, Problem, ScheduleError, SpecError, WorkloadError, shown
from dcsim.fabric.custom import read_fabric
from dcsim.reading import TEXT_MAX, read_json, reading
from dcsim.spec.document import parse_document, parse_scalar, read_document
from dcsim.spec.load import load
from dcsim.spec.price import TcoPrices, read_prices
from dcsim.spec.workload import TraceSpec
from dcsim.workload.traces import read_trace

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
GOOD = "name: t\nchip: lpu-v1\nnode: lpu-node\nhost: epyc-7313x2\nnetwork: scheduled\nfabric: {kind: lpu_dragonfly, nodes: 8}\n"
GOOD += "llm: llama-3-8b\nworkload: chat\n"
# What may stand at the place of any value, and what is said of it.
VALUES = {
    "tag": ("!!int many", "'many' is no int"),
    "foreign tag": ("!!python/object:os.system x", "neither text nor a number"),
    "own tag": ("!mine x", "neither text nor a number"),
    "date": ("2001-02-03", "neither text nor a number"),
    "set": ("!!set {a, b}", ""),
    "binary": ("!!binary aGVsbG8=", "neither text nor a number"),
    "digits": ("1" * 5000, "more than 4300 digits"),
    "long number": ("1" * 4000, ""),
    "half a character": (r'"\ud800"', r"'\\ud800' is not text"),
    "end of text": (r'"a\0b"', "is not text"),
    "not a number": (".nan", ""),
    "infinity": (".inf", ""),
    "minus infinity": ("-.inf", ""),
    "list": ("[1, 2]", ""),
    "mapping": ("{a: 1}", ""),
    "nothing": ("", ""),
    "nested lists": ("[" * 3000, "nested"),
    "nested mappings": ("{a: " * 3000, "nested"),
    "closed nesting": ("[" * 200 + "]" * 200, "nested"),
    "itself": ("&x [*x]", ""),
    "long text": ('"' + "word " * 5000 + '"', ""),
    "control characters": (r'"\e[31m\a\b"', ""),
    "figure of a list": ("{value: [1], kind: spec, source: x}", ""),
    "kind of a list": ("{value: 1, kind: [spec], source: x}", "figure kind"),
    "range of one": ("{value: 1, kind: assumed, source: x, range: 5}", "range of 5 is not two values"),
    "range of three": ("{value: 1, kind: assumed, source: x, range: [1, 2, 3]}", "is not two values"),
    "range without end": ("{value: 1, kind: assumed, source: x, range: [1, .inf]}", "is not two values"),
    "range of mappings": ("{value: 1, kind: assumed, source: x, range: [{}, {}]}", "is not two values"),
}


def one_clear_error(read, kind=DcsimError, match="."):
    """`read` is refused at once, by an error of ours whose lines anybody can read."""
    began = time.process_time()
    with pytest.raises(kind, match=match or ".") as caught:
        read()
    assert time.process_time() - began < 5
    text = str(caught.value)
    assert text
    assert all(len(line) <= 1500 and line.isprintable() for line in text.splitlines())
    assert max(map(len, text.split())) <= 300
    assert len(text.splitlines()) <= 51
    return text


@pytest.mark.parametrize("place", ["name", "fabric.nodes", "mapping.kv", "slo.ttft", "power.pue", "llm", "workload.duration"])
@pytest.mark.parametrize("name", VALUES)
def test_any_value_at_any_place_of_a_topology(tmp_path, name, place):
    value, message = VALUES[name]
    section, _, key = place.partition(".")
    lines = [line for line in GOOD.splitlines() if not line.startswith(f"{section}:")]
    own = f"{section}: {{base: {'chat' if section == 'workload' else 'hall'}, {key}: {value}}}" if key else f"{section}: {value}"
    if section in ("fabric", "mapping", "slo"):
        own = f"{section}: {{{'kind: lpu_dragonfly, ' if section == 'fabric' else ''}{key}: {value}}}"
    path = tmp_path / "t.yaml"
    path.write_text("\n".join([*lines, own, ""]))
    if place == "name" and name in ("long text", "control characters"):
        assert load(path).spec.name  # any text may be a name
        return
    text = one_clear_error(lambda: load(path), SpecError, message)
    assert text.startswith(f"{path}")


@pytest.mark.parametrize("name", VALUES)
def test_any_value_of_a_setting_and_of_a_price(tmp_path, name):
    value, message = VALUES[name]
    for key in ("mapping.tp", "slo.ttft", "chip.memory", "llm", "workload"):
        assert one_clear_error(lambda key=key: load("64chip", settings=[f"{key}={value}"]), SpecError).startswith("--set")
    path = tmp_path / "p.yaml"
    path.write_text(f"kind: tco\nelectricity_kwh: {value}\n")
    assert one_clear_error(lambda: read_prices(str(path), TcoPrices), SpecError, message)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (LAUGHS, "more than 100,000 values, anchors written out"),
        ("- " * 2000, "nested"),
        ("a: " + "x" * TEXT_MAX, "larger than 1 MiB"),
        ("%YAML 9.9\n---\na: 1\n", ""),
        ("a: *nowhere", "undefined alias"),
        ("<<: 1\n", ""),
        ("<<: [*a]\n", "undefined alias"),
        ("? [a, b]\n: 1\n", "unknown key"),
        ("? {a: b}\n: 1\n", "unknown key"),
        (r'"\ud800": 1', "is not text"),
        ("1: a\n", "unknown key"),
        ("null: a\n", "unknown key"),
        ("\x07: a", "not YAML"),
        ("".join(f"k{i}: 1\n" for i in range(3000)), "and [0-9,]+ more"),
    ],
    ids=lambda value: value[:20],
)
def test_documents_that_are_none(tmp_path, text, match):
    path = tmp_path / "t.yaml"
    path.write_text(text, encoding="utf-8")
    assert one_clear_error(lambda: load(path), SpecError, match)


def test_merge_keys_and_anchors_are_read(tmp_path):
    document = parse_document(
        "base: &base {tp: 8, kv: int8}\nother: &other {pp: 2, kv: fp16}\n"
        "one: {<<: *base, tp: 4}\nboth:\n  <<: [*base, *other]\nalso: *base\nnumber: &n 7\nsame: *n\n",
        "t.yaml",
    )
    assert document.data["one"] == {"tp": 4, "kv": "int8"}
    assert document.data["both"] == {"tp": 8, "kv": "int8", "pp": 2}
    assert document.data["also"] == document.data["base"]
    assert document.data["same"] == 7
    assert document.place(("one", "tp")) == "t.yaml:3:18"
    assert document.place(("both", "pp")) == "t.yaml:5:3"  # where the mapping stands that it is merged into
    path = tmp_path / "t.yaml"
    path.write_text(GOOD + "x: &x {weights: int8}\nmapping: {<<: *x, kv: int8}\n")
    assert one_clear_error(lambda: load(path), SpecError) == one_clear_error(lambda: load(path), SpecError)
    path.write_text(GOOD + "mapping: &m {weights: int8}\nslo: {ttft: &t 2 s, tpot: *t}\n")
    assert load(path).spec.slo.tpot_s == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be", "utf-32-le"])
def test_a_byte_order_mark_names_the_encoding(tmp_path, encoding):
    mark = {"utf-16-be": codecs.BOM_UTF16_BE, "utf-32-le": codecs.BOM_UTF32_LE}.get(encoding, b"")
    yaml, config, graph = tmp_path / "t.yaml", tmp_path / "c.json", tmp_path / "g.json"
    yaml.write_bytes(mark + GOOD.replace("name: t", "name: tête").encode(encoding))
    assert load(yaml).spec.name == "tête"
    figures = {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "vocab_size": 100, "n_positions": 64}
    config.write_bytes(mark + json.dumps({**figures, "_name_or_path": "é"}).encode(encoding))
    assert load("64chip", llm=str(config)).spec.llm.name
    graph.write_bytes(
        mark + json.dumps({"nodes": [{"id": 0}, {"id": 1}], "edges": [{"source": 0, "target": 1}]}).encode(encoding)
    )
    assert read_fabric(graph).chip_count == 2
    for ending, pack in (("", bytes), (".gz", gzip.compress), (".zst", zstd)):
        trace = tmp_path / f"t.csv{ending}"
        trace.write_bytes(pack(mark + VIDUR.encode(encoding)))
        assert len(read(trace)) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"1",
        b"null",
        b'"text"',
        b"{",
        b"",
        b"[" * 50_000,
        b'{"a": NaN}',
        b'{"a": ' + b"1" * 5000 + b"}",
        b"\xff\xfe\x00",
        b"\xe9",
    ],
    ids=lambda content: content[:12].decode("latin-1"),
)
def test_json_that_is_no_configuration_and_no_graph(tmp_path, content):
    path = tmp_path / "c.json"
    path.write_bytes(content)
    assert str(path) in one_clear_error(lambda: load("64chip", llm=str(path)), SpecError)
    assert str(path) in one_clear_error(lambda: read_fabric(path), FabricError)


CONFIG = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}


@pytest.mark.parametrize("key", [*CONFIG, "layer_types", "text_config", "hidden_act", "rope_scaling", "quantization_config"])
@pytest.mark.parametrize(
    "value", [[[1], [2]], {"a": {}}, -1, 10**30, 1e308, "", "x" * 5000, True, [None]], ids=lambda v: str(v)[:9]
)
def test_any_value_in_a_configuration(tmp_path, key, value):
    """Read, or refused by name: never anything else."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**CONFIG, key: value}))
    try:
        load("64chip", llm=str(path))
    except DcsimError:
        assert one_clear_error(lambda: load("64chip", llm=str(path)), SpecError)


LAYERED = {
    **{
        "layers": 2,
        "d_model": 64,
        "vocab": 100,
        "precision": {"weights": "bf16", "experts": "fp8"},
        "pattern": [{"attention": "a"}],
    },
    **{"attention": {"a": {"kind": "full", "heads": 2, "kv_heads": 2, "d_head": 32}}, "feed_forward": {}, "encoders": {}},
    "prediction": {"layers": 1, "attention": "a"},
}


@pytest.mark.parametrize("key", [*LAYERED, "precision.weights", "precision.experts", "prediction.attention", "attention.a"])
@pytest.mark.parametrize("value", [[[1], [2]], {"a": {}}, [{"kind": []}], -1, 1e308, "x", True, [None]], ids=lambda v: str(v)[:9])
def test_any_value_in_a_file_of_layers(tmp_path, key, value):
    """The same of an LLM whose layers differ."""
    path = tmp_path / "llm.yaml"
    section, _, inner = key.partition(".")
    path.write_text(json.dumps({**LAYERED, section: {**LAYERED[section], inner: value} if inner else value}))
    try:
        load("64chip", llm=str(path))
    except DcsimError:
        assert one_clear_error(lambda: load("64chip", llm=str(path)), SpecError)


VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n7.0,374,44\n7.25,396,109\n8.5,12,1\n"


def zstd(data):
    import pyarrow as pa

    return pa.compress(data, codec="zstd", asbytes=True)


def read(path, **more):
    return read_trace(path, TraceSpec.model_validate({"file": str(path), **more}))


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
def test_packed_traces_are_read_whole_or_told(tmp_path, ending, pack):
    rows = VIDUR + "".join(f"{9 + i},{i % 900 + 1},{i % 70 + 1}\n" for i in range(20_000))
    lines = "".join(
        json.dumps({"timestamp": 100 * i, "input_length": 7, "output_length": 3, "hash_ids": []}) + "\n" for i in range(9000)
    )
    for name, text, count in (("t.csv", rows, 20_003), ("t.jsonl", lines, 9000)):
        path, packed = tmp_path / f"{name}{ending}", pack(text.encode())
        path.write_bytes(packed)
        assert len(read(path)) == count
        path.write_bytes(packed + packed if name == "t.jsonl" else packed)  # several packed pieces in a row are one file
        assert len(read(path, unsorted="sort")) == (2 * count if name == "t.jsonl" else count)
        middle = len(packed) // 2
        for damaged in (
            packed[:-9],
            packed[:middle],
            packed[: middle - 8] + bytes(16) + packed[middle + 8 :],
            b"",
            text.encode(),
        ):
            path.write_bytes(damaged)
            text_of_it = one_clear_error(lambda path=path: read(path), WorkloadError)
            assert text_of_it.startswith(f"{path}: ")


def test_a_packed_file_that_unpacks_to_gigabytes_is_refused_early(tmp_path):
    path = tmp_path / "bomb.csv.gz"
    with gzip.open(path, "wb", 1) as file:
        for _ in range(300):
            file.write(b"x" * 2**20)
    assert one_clear_error(lambda: read(path), WorkloadError, "a line of it is longer than")


SHARED_NAMES = {"input_length": 5, "output_length": 3}


@pytest.mark.parametrize(
    ("times", "more", "span_s"),
    [
        ([250, 1500, 60_250], {"hash_ids": [1]}, 60.0),  # Mooncake
        ([0.25, 1.5, 60.25], {"chat_id": 1, "turn": 1, "hash_ids": [1]}, 60.0),  # Bailian
        ([0, 1, 60], {"chat_id": 1, "turn": 1, "hash_ids": [1]}, 60.0),
        ([0.25, 1.5, 60.25], {"hash_ids": [1]}, None),
        ([250, 1500, 60_250], {}, None),
        ([0.25, 1.5, 60.25], {}, None),
    ],
)
def test_the_unit_of_a_trace_is_told_by_what_is_in_it_or_asked_for(tmp_path, times, more, span_s):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"timestamp": t, **SHARED_NAMES, **more}) + "\n" for t in times))
    if span_s is None:
        assert one_clear_error(
            lambda: read(path), WorkloadError, r"cannot be told .*; set workload\.trace\.arrival_unit to s, ms, us or ns$"
        )
    else:
        assert np.ptp(read(path).arrival_s) == span_s
    for unit, factor in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        assert np.ptp(read(path, arrival_unit=unit).arrival_s) == pytest.approx((times[-1] - times[0]) * factor)


@pytest.mark.parametrize(
    ("cell", "match"),
    [
        ("1716182400000000", "out of range for s, .*`arrival_unit` sets the unit"),
        ("-1e300", "out of range"),
        ("soon", "is not a number"),
        ("nan", "is not a number"),
        ("inf", "is not a number"),
        ("1" * 5000, "is not a number"),
        ("", "is not a number"),
    ],
)
def test_why_an_arrival_is_none(tmp_path, cell, match):
    path = tmp_path / "t.csv"
    path.write_text(VIDUR.replace("7.25", cell))
    assert one_clear_error(lambda: read(path), WorkloadError, f"row 2: column 'arrived_at': .*{match}")


@pytest.mark.parametrize(
    "date",
    ["0001-01-01 00:00:00", "9999-01-01 00:00:00", "-5000-01-01 00:00", "2020-13-01 00:00", "NaT:", "12", "2020-01-01 25:00:00"],
)
def test_a_date_is_one_that_can_be_counted(tmp_path, date):
    path = tmp_path / "t.csv"
    for dates in ([date] * 2, ["2023-11-16 18:15:46.68", date], ["2023-11-16 18:15:46Z", date]):
        path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(f"{one},1,1\n" for one in dates))
        assert one_clear_error(lambda: read(path), WorkloadError, "is not a date with time")


@pytest.mark.parametrize(
    "row",
    [
        '{"arrived_at": 0, "num_prefill_tokens": 5, "num_decode_tokens": [1, 2]}',
        '{"arrived_at": [0], "num_prefill_tokens": 5, "num_decode_tokens": 1}',
        '{"arrived_at": {"a": 1}, "num_prefill_tokens": 5, "num_decode_tokens": 1}',
        '{"arrived_at": 0, "num_prefill_tokens": null, "num_decode_tokens": 1}',
        '{"arrived_at": 0, "num_prefill_tokens": ' + "9" * 400 + ', "num_decode_tokens": 1}',
        '{"arrived_at": 0, "num_prefill_tokens": ' + "9" * 5000 + ', "num_decode_tokens": 1}',
        '{"arrived_at": NaN, "num_prefill_tokens": 5, "num_decode_tokens": 1}',
        '{"arrived_at": "\\ud800", "num_prefill_tokens": 5, "num_decode_tokens": 1}',
        "[" * 100_000,
        "[1, 2, 3]",
        "7",
    ],
    ids=lambda row: row[:40],
)
def test_cells_of_any_kind_are_named(tmp_path, row):
    path = tmp_path / "t.jsonl"
    good = '{"arrived_at": 0, "num_prefill_tokens": 5, "num_decode_tokens": 1}'
    for rows in ([row, good], [good, row]):
        path.write_text("\n".join([*rows, ""]))
        assert one_clear_error(lambda: read(path), WorkloadError, "row [12]: ")


def test_a_column_that_stands_twice_is_asked_about(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens,arrived_at\n0,1,1,5\n")
    assert one_clear_error(lambda: read(path), WorkloadError, "'arrived_at' stands there 2 times")


def test_parquet_of_other_types(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    for column in ([[1], [2]], [b"x", b"y"], [{"a": 1}, {"a": 2}], [True, False], [None, None]):
        pq.write_table(pa.table({"arrived_at": [0, 1], "num_prefill_tokens": [1, 2], "num_decode_tokens": column}), path)
        assert one_clear_error(lambda: read(path), WorkloadError, "row 1: column 'num_decode_tokens'")
    path.write_bytes(path.read_bytes()[:-40])
    assert one_clear_error(lambda: read(path), WorkloadError, "cannot be read")


def test_a_folder_and_a_missing_file_are_told(tmp_path):
    assert one_clear_error(lambda: read_document(tmp_path), SpecError, "cannot be read: Is a directory")
    assert one_clear_error(lambda: read_document(tmp_path / "none.yaml"), SpecError, "cannot be read: No such file")
    (tmp_path / "t.csv").mkdir()
    assert one_clear_error(lambda: read(tmp_path / "t.csv"), WorkloadError, "Is a directory")


def test_a_run_folder_that_was_changed_by_hand(tmp_path, monkeypatch, capsys):
    from dcsim.cli import main

    monkeypatch.chdir(tmp_path)
    for content in ("{}", "[]", "{", '{"requests_in": "many"}'):
        for name in ("summary", "spec", "meta"):
            (tmp_path / f"{name}.json").write_text(content)
        for words in (("cost", "."), ("export", ".", "--out", "o"), ("export", ".", "--out", "o", "--format", "perfetto")):
            monkeypatch.setattr("sys.argv", ["dcsim", *words])
            with pytest.raises(SystemExit) as end:
                main()
            out, err = capsys.readouterr()
            assert (end.value.code, out, len(err.splitlines())) == (2, "", 1), err
    assert not (tmp_path / "o").exists()


def test_the_boundary_lets_bugs_and_our_own_errors_through():
    for error in (AssertionError("bug"), FabricError("told"), KeyboardInterrupt()):
        with pytest.raises(type(error)), reading("f", SpecError):
            raise error
    for error in (KeyError("k"), OverflowError("too large"), RecursionError(), MemoryError(), OSError(5, "Input/output error")):
        with pytest.raises(SpecError, match=r"^f: cannot be read: ") as caught, reading("f", SpecError):
            raise error
        assert caught.value.__cause__ is error


def test_values_are_shown_short_and_on_one_line():
    loop = []
    loop.append(loop)
    for value in ("x" * 10**6, 10**5000, [["y" * 999]] * 999, "a\nb\x1b[31m\u2028", "\ud800", loop, {"k": object()}):
        assert len(shown(value)) <= 300
        text = str(DcsimError(f"t.yaml: {shown(value)}"))
        assert text.isprintable()
        text.encode()


def test_errors_come_back_from_workers_as_they_were():
    problems = [Problem("t.yaml:1:1", "what", "mend"), Problem("", "text alone")]
    for error in (SpecError(problems), SpecError("text"), CapacityError("m", 3.0, 2.0), ScheduleError("m", "late", 4, 5)):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_scalar_is_plain_data():
    assert parse_scalar("[1.50, '2', {a: 0x10}]") == [1.5, "2", {"a": 16}]
    assert {type(value) for value in parse_scalar("[1.50, '2', 0x10]")} == {float, str, int}
    assert parse_scalar("2001-02-03") == "2001-02-03"


def test_json_numbers_are_numbers(tmp_path):
    (tmp_path / "j.json").write_text("[Infinity]")
    with pytest.raises(ValueError, match="Infinity is no number"):
        read_json(tmp_path / "j.json")
