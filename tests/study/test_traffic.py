"""`dcsim traffic`: flows of a file, flows at a load, their sizes, and queues over time."""

import json
import sys

import numpy as np
import pytest

from dcsim.errors import SpecError, WorkloadError
from dcsim.fabric.graph import from_cables
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import LinkFigures, PacketRules
from dcsim.network.packet.engine.traffic import Flows
from dcsim.spec.flow_sizes import FlowSizes
from dcsim.spec.load import load_entry
from dcsim.study.flows import poisson, read_flows, sizes_drawn
from dcsim.study.traffic import FlowsAsked, traffic

HDR = "infiniband-hdr"
HEADER = "source,destination,bytes,start\n"


def written(tmp_path, text):
    path = tmp_path / "flows.csv"
    path.write_text(text)
    return path


def test_flows_of_a_file_go_where_and_when_it_says(tmp_path):
    """Columns in any order; one flow alone, the other a millisecond later over the same link."""
    path = written(tmp_path, "start,id,bytes,destination,source\n0,a,1000000,5,3\n1e-3,b,4096,5,4\n")
    done = traffic(None, HDR, FlowsAsked(endpoints=16, file=path), tables=True)
    assert (done["pattern"], done["flows"], done["size_bytes"]) == ("file", 2, None)
    table = done["flow_table"]
    assert (table["source"].tolist(), table["destination"].tolist()) == ([3, 4], [5, 5])
    alone_s = -(-1_000_000 // 4096) * 26 / 25e9 + 1_000_000 / 25e9
    assert alone_s < table["flow_s"][0] < alone_s + 4e-6
    assert 1e-3 < done["finish_s"] < 1e-3 + 5e-6
    assert table["slowdown"].tolist() == pytest.approx([1, 1], abs=1e-3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'source'"),
        ("src,destination,bytes,start\n1,2,3,0\n", "no column 'source'"),
        ("source,destinaton,bytes,start\n1,2,3,0\n", "is it 'destinaton'"),
        (HEADER, "holds no flows"),
        (HEADER + "1,2,3,0\n1,2,3\n", "line 3: 3 cells"),
        (HEADER + "1,99,3,0\n", "line 2: destination 99 is no chip"),
        (HEADER + "-1,2,3,0\n", "source -1 is no chip"),
        (HEADER + "2,2,3,0\n", "sends to itself"),
        (HEADER + "1,2,0,0\n", "0 bytes are no size"),
        (HEADER + "1,2,1.5,0\n", "bytes '1.5' is no whole number"),
        (HEADER + "1,2,1MiB,0\n", "line 2: bytes '1MiB' is no whole number: it counts bytes, without a unit"),
        (HEADER + "1,2,1000,5 us\n", "line 2: start '5 us' is no number; it counts seconds, without a unit"),
        (HEADER + "1,2,3,-1\n", "start -1 is no time"),
        (HEADER + "1,2,3,nan\n", "start nan is no time"),
        (HEADER + "1,2,3,soon\n", "line 2:"),
    ],
)
def test_a_file_that_holds_no_flows_is_one_clear_error(tmp_path, text, said):
    path = written(tmp_path, text)
    with pytest.raises(WorkloadError, match=said) as told:
        read_flows(path, 16)
    assert str(told.value).startswith(str(path))


def test_what_traffic_writes_it_reads(tmp_path, monkeypatch, capsys):
    from dcsim.cli import main

    monkeypatch.chdir(tmp_path)

    def ask(*words):
        monkeypatch.setattr(sys, "argv", ["dcsim", "traffic", "--endpoints", "16", *words, "--json"])
        main()
        return json.loads(capsys.readouterr().out)

    first = ask("--pattern", "uniform", "--load", ".3", "--sizes", "hadoop", "--duration", "100 us", "--out", "there")
    again = ask("--flows", "there/flows.csv", "--out", "here")
    assert again["flows"] == first["flows"]
    assert (tmp_path / "here/queues.csv").read_text().splitlines()[0] == "time_s,link,from,to,queue_bytes"
    mine, theirs = ((tmp_path / name / "flows.csv").read_text().splitlines() for name in ("here", "there"))
    assert [line.split(",")[0:4] for line in mine] == [line.split(",")[1:5] for line in theirs]


@pytest.mark.parametrize("name", ["websearch", "hadoop"])
def test_sizes_follow_their_distribution(name):
    sizes = load_entry(name, "workloads/flows", FlowSizes)[0]
    drawn = sizes_drawn(sizes, np.random.default_rng(1).random(200_000))
    assert drawn.mean() == pytest.approx(sizes.mean_bytes, rel=0.02)
    for share, size in zip(sizes.shares[1:-1], sizes.sizes_bytes[1:-1], strict=True):
        assert np.mean(drawn <= size) == pytest.approx(share, abs=0.005)


def test_mean_of_a_distribution():
    """Half from 1 to 3, half from 3 to 11: (2 + 7) / 2."""
    assert FlowSizes(name="x", shares=(0, 0.5, 1), sizes=("1 B", "3 B", "11 B")).mean_bytes == pytest.approx(4.5)


@pytest.mark.parametrize(
    "keys",
    [
        {"shares": (0, 1), "sizes": ("5 B", "1 B")},
        {"shares": (0, 0.5), "sizes": ("1 B", "2 B")},
        {"shares": (0, 1), "sizes": ("0 B", "9 B")},
    ],
)
def test_what_is_no_distribution_of_sizes_is_refused(keys):
    with pytest.raises(ValueError, match=r"needs as many|at least 1 B"):
        FlowSizes(name="x", **keys)


@pytest.mark.parametrize("pattern", ["uniform", "perm", "adversarial", "incast"])
def test_offered_load_is_what_was_asked_for(pattern):
    chips, line, span_s = 32, 12.5e9, 0.02
    flows = poisson(pattern, np.arange(chips) // 8, line, 0.6, span_s, 20_000, 3)
    assert (flows.source != flows.target).all()
    assert flows.release_s[-1] == pytest.approx(span_s, rel=0.05)
    receivers = 1 if pattern == "incast" else chips
    assert flows.size_bytes.sum() / span_s == pytest.approx(0.6 * line * receivers, rel=0.02)
    gaps = np.diff(flows.release_s)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)  # as exponential times have it
    if pattern == "adversarial":
        assert (flows.target // 8 == (flows.source // 8 + 1) % 4).all()
    if pattern == "perm":
        assert len(np.unique(flows.source * chips + flows.target)) == chips


def test_a_higher_load_has_the_same_flows_closer_together():
    low, high = (poisson("uniform", np.zeros(16), 1e9, load, 1e-3, 1000, 5) for load in (0.2, 0.8))
    n = len(low.source)
    assert n == len(high.source) // 4
    for one in ("source", "target", "size_bytes"):
        assert np.array_equal(getattr(low, one), getattr(high, one)[:n])
    assert low.release_s == pytest.approx(4 * high.release_s[:n])


ONE_SWITCH = ("64chip", "infiniband-ndr")  # every chip on one switch, by cables of 137.5 GB/s
PORT, WIRE = 137.5e9, 4096 + 30


@pytest.mark.parametrize("load", [0.3, 0.6, 0.85])
def test_waiting_at_one_link_is_that_of_a_queue_with_equal_work(load):
    """M/D/1: packets of 4 KiB from 63 chips to one wait rho s / (2 (1 - rho)) at its cable (Pollaczek 1930, Khinchine 1932).

    Load is data; headers count in rho. Each chip sends so seldom that next to nothing waits at its own cable.
    """
    done, light = (
        traffic(*ONE_SWITCH, FlowsAsked("incast", None, 4096, (share,), duration_s=0.008), settings=("network.buffer=1 GB",))
        for share in (load, 0.001)
    )
    rho = load * WIRE / 4096
    assert done["flow_s_mean"] - light["flow_s_mean"] == pytest.approx(rho * WIRE / PORT / (2 * (1 - rho)), rel=0.08)
    assert done["accepted_bytes_per_s"] == pytest.approx(done["offered_bytes_per_s"], rel=0.01)
    assert done["offered_bytes_per_s"] == pytest.approx(load * PORT, rel=0.03)


def test_more_than_a_link_carries_is_not_accepted():
    row = traffic(None, HDR, FlowsAsked("incast", 16, 4096, (1.5,), duration_s=0.002))["rows"][0]
    assert row["accepted_bytes_per_s"] == pytest.approx(25e9 * 4096 / 4122, rel=0.02)
    assert row["slowdown_p99"] > 50


@pytest.mark.parametrize("network", [HDR, "roce-400g", "ethernet-100g", "ultra-ethernet-400g"])
@pytest.mark.parametrize("pattern", ["uniform", "incast"])
def test_looking_at_queues_changes_nothing(network, pattern):
    asked = FlowsAsked(pattern, 16, 64 * 1024, (0.7,), duration_s=2e-4)
    seen, unseen = (traffic(None, network, asked, tables=tables)["rows"][0] for tables in (True, False))
    assert seen == unseen


def test_queues_over_time_hold_the_work_of_such_a_queue():
    """The mean work of an M/D/1 queue, what is being sent included, is rho s / (2 (1 - rho)), as is its waiting time (PASTA)."""
    load = 0.8
    asked = FlowsAsked("incast", None, 4096, (load,), duration_s=0.008)
    done = traffic(*ONE_SWITCH, asked, settings=("network.buffer=1 GB",), tables=True)
    table, rho = done["queue_table"], load * WIRE / 4096
    looks = round(done["finish_s"] / np.diff(np.unique(table["time_s"])).min())
    assert 200 <= looks <= 300
    mean_bytes = table[table["to"] == 0]["queue_bytes"].sum() / looks
    assert mean_bytes == pytest.approx(rho * WIRE / (2 * (1 - rho)), rel=0.3)


def test_a_long_iteration_is_looked_at_less_often():
    """Two packets a millisecond apart, looked at every 100 ns: the rows never run out, and reach the end."""
    cables = [(0, 2, "adapter", 0.0), (1, 2, "adapter", 0.0)]
    flows = Flows(np.array([0, 0]), np.array([1, 1]), np.array([4096, 4096]), np.array([0.0, 1e-3]))
    engine = Engine(
        from_cables("star", 2, cables, vertex_count=3), PacketRules({"adapter": LinkFigures(1e9)}), flows, sample_s=1e-7
    )
    engine.iteration()
    times_s, queued = engine.queues()
    assert 500 <= len(times_s) <= 1024
    assert queued.shape == (len(times_s), 4)
    assert 0.0009 < times_s[-1] <= 0.00101


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--flows", "x.csv", "--load", ".5"), "--load: the flows of --flows are as they are"),
        (("--sizes", "hadoop"), "--sizes: says how flows are at a load"),
        (("--load", ".5", "--sizes", "hadoop", "--bytes", "1KiB"), "--bytes: --sizes says how large"),
        (("--load", "half"), "no list of numbers"),
        (("--load", "0"), "above 0 and at most 2"),
        (("--load", ".5", "--duration", "never"), "--duration"),
        (("--load", ".5", "--sizes", "hadop"), "did you mean hadoop"),
        (("--flows", "nothing.csv"), "No such file"),
    ],
)
def test_bad_words_are_one_clear_error(words, said, tmp_path, monkeypatch, capsys):
    from dcsim.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dcsim", "traffic", "--endpoints", "4", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_patterns_need_groups_to_be_adversarial():
    with pytest.raises(SpecError, match="all in one group"):
        traffic("h100x16", None, FlowsAsked("adversarial", 8, 4096, (0.5,)))
