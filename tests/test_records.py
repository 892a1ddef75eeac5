"""Run folders: whole or not at all, replaced or left alone, and read back as they were written."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from command import everything_in

from dcsim.errors import RunStoreError
from dcsim.results import records
from dcsim.results.records import TABLES


def made_up_tables(rows=3, seed=1):
    """Every table with `rows` rows of made-up values of the right type."""
    random = np.random.default_rng(seed)
    columns = {
        "int64": lambda: random.integers(-5, 10**15, rows),
        "float64": lambda: random.normal(size=rows),
        "str": lambda: np.array([f"é {x}" for x in random.integers(0, 9, rows)], dtype="U"),
    }
    return {name: {c.name: columns[c.dtype]() for c in table} for name, table in TABLES.items()}


SUMMARY = {"requests_in": 3, "requests_finished": 3, "ttft_s_p50": 0.1, "note": None}
META = {"seed": 1}


def write(folder, tables=None, **changes):
    records.write_run(folder, tables or made_up_tables(), {**SUMMARY, **changes}, {"name": "x"}, META)


def test_a_run_says_what_ran_not_what_its_file_says(tmp_path):
    from dcsim.study.scenario import load

    run = load(
        "8rack", llm="llama-3-8b", interconnect="infiniband-ndr", duration="1 s", set=["mapping.tp=8", "mapping.pp=8"]
    ).run()
    assert "Llama-2-70B" in run.spec["description"]
    assert run.description == "Llama-3-8B on 64 of 512 LPU v1 chips, InfiniBand NDR with library posted, serving chat"


def test_tables_and_files_come_back_as_they_were(tmp_path):
    tables = made_up_tables()
    tables["requests"]["tpot_s"][1] = np.nan
    write(tmp_path / "run", tables)
    run = records.open_run(tmp_path / "run")
    assert (run.summary, run.spec, run.meta) == (SUMMARY, {"name": "x"}, META)
    for name, table in tables.items():
        frame = run.table(name)
        assert list(frame.columns) == [column.name for column in TABLES[name]]
        for column, values in table.items():
            np.testing.assert_array_equal(frame[column].to_numpy(), values, err_msg=f"{name}.{column}")


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_without_rows_keeps_its_types(tmp_path, rows):
    write(tmp_path / "run", made_up_tables(rows))
    frame = records.open_run(tmp_path / "run").requests
    assert len(frame) == rows
    assert frame["arrival_s"].dtype == np.float64
    assert frame["request"].dtype == np.int64
    assert not np.issubdtype(frame["status"].to_numpy().dtype, np.number)


def test_a_run_in_memory_and_from_its_folder_are_the_same(tmp_path):
    tables = made_up_tables()
    write(tmp_path / "run", tables)
    here = records.Run(tmp_path / "run", SUMMARY, {"name": "x"}, META, tables)
    there = records.open_run(tmp_path / "run")
    for name in ("requests", "power", "gaps", "limits"):
        a, b = getattr(here, name), getattr(there, name)
        assert [*a.columns] == [*b.columns]
        assert all((a[c].to_numpy() == b[c].to_numpy()).all() for c in a)
    assert repr(here) == repr(there)
    assert "3 of 3 requests finished" in repr(here)


def test_an_older_run_is_replaced_whole(tmp_path):
    write(tmp_path / "run", note="old")
    (tmp_path / "run" / "extra.parquet").write_text("left by an older version")
    write(tmp_path / "run", note="new")
    assert records.open_run(tmp_path / "run").summary["note"] == "new"
    assert "run/extra.parquet" not in everything_in(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("bug")])
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("crash", ["in a table", "in a move", "in the last move"])
def test_a_crash_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch, error, older, crash):
    if older:
        write(tmp_path / "run", note="old")
    before = everything_in(tmp_path)
    moves = []

    def replace(source, target):
        moves.append(target)
        if len(moves) == (2 if crash == "in the last move" and older else 1):
            raise error
        real(source, target)

    def fail(*_):
        raise error

    real = os.replace
    if crash == "in a table":
        monkeypatch.setattr(records, "_write_parquet", fail)
    else:
        monkeypatch.setattr(records.os, "replace", replace)
    with pytest.raises(RunStoreError if isinstance(error, OSError) else type(error)):
        write(tmp_path / "run", note="new")
    monkeypatch.undo()
    assert everything_in(tmp_path) == before
    if older:
        assert records.open_run(tmp_path / "run").summary["note"] == "old"


def test_checking_makes_nothing(tmp_path):
    records.check_writable(tmp_path / "a" / "b" / "run")
    assert everything_in(tmp_path) == []
    write(tmp_path / "a" / "b" / "run")
    assert (tmp_path / "a" / "b" / "run" / "meta.json").is_file()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_text("x"), "is a file"),
        (lambda p: (p.mkdir(), (p / "thesis.txt").write_text("x")), "holds other files"),
        (lambda p: (p.mkdir(), os.chdir(p)), "current folder"),
    ],
)
def test_what_cannot_become_a_run_folder_is_told_before_the_run(tmp_path, monkeypatch, make, message):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "run")
    before = everything_in(tmp_path)
    for check in (records.check_writable, write):
        with pytest.raises(RunStoreError, match=message):
            check(tmp_path / "run")
    assert everything_in(tmp_path) == before


def test_a_mount_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    records.check_writable(tmp_path / "run")
    monkeypatch.setattr(records.os.path, "ismount", lambda folder: folder == tmp_path / "run")
    with pytest.raises(RunStoreError, match="mount; name a folder inside it"):
        records.check_writable(tmp_path / "run")


def test_the_last_run_is_the_newest(tmp_path):
    with pytest.raises(RunStoreError, match="no run here yet; make one with"):
        records.last_run(tmp_path)
    for name in ("b", "a", "c"):
        write(tmp_path / name)
    now = time.time_ns()
    for name, age_s in (("b", 30), ("a", 10), ("c", 20)):
        os.utime(tmp_path / name / "meta.json", ns=(now - age_s * 10**9,) * 2)
    (tmp_path / "not-a-run").mkdir()
    assert records.last_run(tmp_path) == tmp_path / "a"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "summary.json").unlink(), r"not a readable run folder \(summary\.json"),
        (lambda run: (run / "meta.json").write_text("{"), r"not a readable run folder \(meta\.json"),
    ],
)
def test_a_spoilt_folder_is_told(tmp_path, spoil, message):
    write(tmp_path / "run")
    spoil(tmp_path / "run")
    with pytest.raises(RunStoreError, match=message):
        records.open_run(tmp_path / "run")


@pytest.mark.parametrize("content", [None, b"not parquet at all"])
def test_a_spoilt_table_is_told(tmp_path, content):
    write(tmp_path / "run")
    path = tmp_path / "run" / "requests.parquet"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(RunStoreError, match=r"requests\.parquet cannot be read"):
        _ = records.open_run(tmp_path / "run").requests


def test_the_digest_sees_values_and_not_the_order_of_keys():
    tables = made_up_tables()
    told = records.digest(tables, SUMMARY)
    assert len(told) == 16
    turned = {name: dict(reversed(table.items())) for name, table in reversed(tables.items())}
    assert records.digest(turned, dict(reversed(SUMMARY.items()))) == told
    assert records.digest(tables, {**SUMMARY, "requests_in": 4}) != told
    for column in TABLES["requests"]:
        changed = {**tables, "requests": {k: v.copy() for k, v in tables["requests"].items()}}
        values = changed["requests"][column.name]
        values[0] = "z" if column.dtype == "str" else values[0] + 1
        assert records.digest(changed, SUMMARY) != told, column.name


def test_files_are_json_that_any_reader_takes(tmp_path):
    write(tmp_path / "run")
    for name in ("spec", "summary", "meta"):
        text = (tmp_path / "run" / f"{name}.json").read_text()
        assert isinstance(json.loads(text, parse_constant=pytest.fail), dict)


def test_every_column_is_described_once():
    for table in TABLES.values():
        names = [column.name for column in table]
        assert len(set(names)) == len(names)
        assert all(column.meaning and column.dtype in ("int64", "float64", "str") for column in table)


def test_saving_a_run_and_reading_a_column_load_no_pandas(tmp_path):
    """Arrow's own conversions would: 0.3 s of every run."""
    code = (
        "import sys, pathlib, numpy as np\n"
        "from dcsim.results.records import TABLES, TableWriter\n"
        "kinds = {'int64': np.int64, 'float64': float, 'str': 'U4'}\n"
        "block = {c.name: np.zeros(3, kinds[c.dtype]) for c in TABLES['requests']}\n"
        "block['status'] = np.array(['é', '', 'ab'])\n"
        "writer = TableWriter('requests', pathlib.Path(sys.argv[1]))\n"
        "writer.write(block), writer.write({**block, 'status': np.array(['x', 'é', ''])})\n"
        "table = writer.close()\n"
        "assert table['status'].tolist() == ['é', '', 'ab', 'x', 'é', ''] and not table['ttft_s'].any()\n"
        "assert not {'pandas', 'pyarrow.dataset'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "r.parquet")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
