"""Work in the background: it is done, told of, stopped, and survives both its server and the loss of its worker."""

import base64
import json
import os
import signal
import time

import pytest

pytest.importorskip("dash", reason="the dashboard extra is not installed")

from dashboard import uploads, worker
from dashboard.fence import fence
from dashboard.jobs import BEGUN_MOST, CANCELLED, DONE, FAILED, RUNNING, WAITING, Jobs
from dashboard.points import Points
from dashboard.worker import WORK
from dcsim.results import records
from dcsim.study.side_by_side import Cell, Question

ASK = {"topology": "64chip", "duration": "5 s", "seed": 1, "settings": []}
LONG = ASK | {"topology": "8rack", "duration": None, "settings": ["engine=simpy"]}


def until(jobs, name, *states, seconds=60):
    """The job once it is in one of the states."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        jobs.wake()
        job = jobs.find(name)
        if job.state in states:
            return job
        time.sleep(0.1)
    raise AssertionError(f"{job.state}: {job.note}")


@pytest.fixture
def jobs(tmp_path):
    made = Jobs(tmp_path)
    yield made
    for child in made._children:  # workers linger for more
        child.kill()
        child.wait()


def test_a_run_is_done_once_and_kept(jobs, tmp_path):
    name = jobs.submit("run", ASK, "a run")
    assert jobs.submit("run", ASK, "a run") == name
    done = until(jobs, name, DONE, FAILED)
    assert done.state == DONE, done.note
    run = records.open_run(tmp_path / done.result["run"])
    import dcsim

    assert run.summary["digest"] == dcsim.load("64chip", duration="5 s").run(seed=1).summary["digest"]
    links = until(jobs, jobs.submit("run-links", {"run": run.folder.name, "name": "0123456789abcdef"}, "links"), DONE, FAILED)
    assert links.state == DONE, links.note
    rows = Points(tmp_path / ".dashboard" / "points").find_picture("0123456789abcdef")
    assert rows == {name: column.tolist() for name, column in dcsim.open_run(run.folder).links_over_time.items()}
    jobs.remove(name)
    assert jobs.find(name) is None


def test_a_job_outlives_its_server_and_is_begun_again_when_its_worker_is_lost(jobs, tmp_path):
    name = jobs.submit("run", LONG, "long")
    running = until(jobs, name, RUNNING)
    other = Jobs(tmp_path)  # as another server on the same folder, or the same one after a restart, sees it
    assert other.find(name).state == RUNNING
    pid = int((jobs.folder / name / "lock").read_text())
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 40
    while other.find(name).begun == running.begun and time.monotonic() < end:
        jobs.wake()
        time.sleep(0.1)
    assert other.find(name).begun == 2
    other.cancel(name)
    assert other.find(name).state == CANCELLED
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")], "nothing half done is left"


def test_a_job_that_loses_every_worker_is_given_up(jobs):
    folder = jobs.folder / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"kind": "run", "ask": ASK, "title": "x", "created": 0}))
    (folder / "state.json").write_text(json.dumps({"state": RUNNING, "begun": BEGUN_MOST}))
    assert "was lost 2 times" in until(jobs, folder.name, FAILED).note


def test_one_that_waits_is_cancelled_before_it_begins(jobs, monkeypatch):
    monkeypatch.setattr(jobs, "_start", lambda: None)
    name = jobs.submit("run", LONG, "x")
    assert jobs.find(name).state == WAITING
    jobs.cancel(name)
    assert jobs.find(name).state == CANCELLED
    assert not list(jobs.ready())


def test_work_of_seconds_goes_before_comparisons_which_go_on_later(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_start", lambda: None)
    short = {"name": "0123456789abcdef", "asked": {"topology": "64chip", "network": "", "batch": 1}}
    computed = []

    def answer(cell):
        computed.append(cell)
        if len(computed) == 1:  # somebody asks for something else meanwhile
            jobs.submit("topology", short, "a cluster")
        return {"reason": "made up"}

    monkeypatch.setattr(worker.side_by_side, "answer", answer)
    cells = [Cell("iteration", Question(chips=68), network).as_json() for network in ("scheduled", "roce-400g")]
    name = jobs.submit("points", {"cells": cells}, "compare")
    assert worker._take(jobs, jobs.find(name), tmp_path)
    assert (jobs.find(name).state, jobs.find(name).begun, len(computed)) == (WAITING, 0, 1)
    first, second = jobs.ready()
    assert (first.kind, second.kind) == ("topology", "points")
    jobs.cancel(first.name)
    assert worker._take(jobs, second, tmp_path)
    assert (jobs.find(name).state, len(computed)) == (DONE, 2)


def test_what_takes_minutes_is_done_one_at_a_time(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_start", lambda: None)
    monkeypatch.setattr(worker, "LINGER_S", 0.3)
    taken = []
    monkeypatch.setattr(worker, "_take", lambda jobs, job, store: taken.append(job.kind) or jobs.cancel(job.name) or True)
    for kind in ("plan", "points"):
        jobs.submit(kind, {}, kind)
    worker._work(jobs, tmp_path, place=1)
    assert taken == ["points"]
    worker._work(jobs, tmp_path, place=0)
    assert taken == ["points", "plan"]


def test_what_cannot_be_served_says_why(jobs):
    failed = until(jobs, jobs.submit("run", ASK | {"llm": "llama-3.1-405b"}, "x"), DONE, FAILED)
    assert failed.state == FAILED
    assert "does not fit" in failed.note or "need" in failed.note


@pytest.mark.parametrize("content", ["{}", "[]", "{", "", '{"kind": 1}'])
def test_foreign_files_among_jobs_are_none(jobs, content):
    (jobs.folder / "0123456789ab").mkdir(parents=True)
    for part in ("job", "state"):
        (jobs.folder / "0123456789ab" / f"{part}.json").write_text(content)
    assert jobs.all() == []
    for name in ("../..", "", None, "0123456789AB", "0123456789ab/../x"):
        assert jobs.find(name) is None


def test_every_kind_of_work_is_known_by_a_name():
    assert set(WORK) == {"run", "run-links", "points", "schedule", "topology", "claims", "plan", "sweep", "systems"}


def packed(data):
    return "data:text/plain;base64," + base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "name", ["../a.yaml", "/etc/passwd", ".hidden.yaml", "a.exe", "a b.yaml", "a\x00.yaml", "<b>.yaml", "x" * 90 + ".yaml", ""]
)
def test_a_hostile_name_never_leaves_the_folder(tmp_path, name):
    folder = tmp_path / "uploads"
    try:
        kept = uploads.keep(folder, name, packed(b"name: x"))
    except uploads.UploadError:
        assert uploads.kept(folder) == []
    else:
        assert kept == "a.yaml"
        assert uploads.kept(folder) == ["a.yaml"]
    assert {path.name for path in tmp_path.iterdir()} <= {"uploads"}


def test_uploads_have_a_size_and_arrive_whole(tmp_path):
    with pytest.raises(uploads.UploadError, match="larger than 4 MiB"):
        uploads.keep(tmp_path, "a.yaml", packed(b"x" * (uploads.SIZE_MAX + 9)))
    with pytest.raises(uploads.UploadError, match="did not arrive whole"):
        uploads.keep(tmp_path, "a.yaml", "data:,&&&&")


def test_a_brought_topology_is_read_with_its_line_and_reads_nothing_elsewhere(tmp_path):
    folder = tmp_path / ".dashboard" / "uploads"
    secret = tmp_path.parent / "secret.yaml"
    secret.write_text("password: 1234\n")
    good = b"name: mine\nchip: lpu-v1\nnode: lpu-node\nhost: epyc-7313x2\nnetwork: scheduled\n"
    good += b"fabric:\n  kind: lpu_dragonfly\n  nodes: 8\n"
    good += b"llm: llama-3-8b\nmapping:\n  weights: int8\n  kv: fp16\nworkload: chat\nslo:\n  ttft: 1 s\n  tpot: 10 ms\n"
    uploads.keep(folder, "good.yaml", packed(good))
    uploads.keep(folder, "bad.yaml", packed(good.replace(b"nodes: 8", b"nodes: many")))
    uploads.keep(folder, "sly.yaml", packed(good.replace(b"llm: llama-3-8b", f"llm: {secret}".encode())))
    uploads.keep(folder, "bomb.yaml", packed(b"a: &a [1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\n" + b"name: [*b]\n"))
    ask = ASK | {"duration": "5 s"}
    assert uploads.check(tmp_path, ask | {"topology": "good.yaml"}) == []
    (problem, *_) = uploads.check(tmp_path, ask | {"topology": "bad.yaml"})
    assert "bad.yaml:8" in problem["where"]
    said = json.dumps(uploads.check(tmp_path, ask | {"topology": "sly.yaml"}))
    assert said != "[]"
    assert "password" not in said
    assert "1234" not in said
    assert uploads.check(tmp_path, ask | {"topology": "bomb.yaml"})
    assert uploads.check(tmp_path, ask | {"topology": str(secret)})


def test_within_a_fence_other_files_cannot_be_read(tmp_path):
    inside, outside = tmp_path / "store" / "a", tmp_path / "b"
    inside.parent.mkdir()
    inside.write_text("a")
    outside.write_text("b")
    (tmp_path / "store" / "link").symlink_to(outside)
    with fence(tmp_path / "store"):
        assert inside.read_text() == "a"
        for path in (outside, tmp_path / "store" / "link", tmp_path / "store" / ".." / "b"):
            with pytest.raises(PermissionError):
                path.read_text()
    assert outside.read_text() == "b"
