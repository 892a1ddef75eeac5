"""Notebooks are stored without outputs, run from top to bottom, and conclude what their numbers say."""

import json
from pathlib import Path

import pytest

pytest.importorskip("nbclient", reason="the notebook extra is not installed")

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
# Run after the last cell: what it says and the table it had.
ASK = """
import json
print(json.dumps([conclusion, GOOD_FRACTION, json.loads(sweep.to_json(orient="records"))]))
"""
PICTURE = "application/vnd.plotly.v1+json"


def test_notebooks_are_stored_without_outputs():
    notebooks = sorted(FOLDER.glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
        for cell in book.cells:
            assert not cell.get("outputs"), f"{path.name}: clear the outputs before you store it"
            assert cell.get("execution_count") is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq", "ignore::DeprecationWarning:jupyter_client")
def test_capacity_planning_runs_and_concludes_from_its_table(tmp_path):
    book = nbformat.read(FOLDER / "capacity_planning.ipynb", as_version=4)
    book.cells.append(nbformat.v4.new_code_cell(ASK))
    place = {"metadata": {"path": tmp_path}}
    NotebookClient(book, timeout=120, kernel_name="python3", resources=place).execute()
    assert not list(tmp_path.iterdir()), "a notebook's runs stay in memory"
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert sum(PICTURE in output.get("data", {}) for output in outputs) == 5
    conclusion, good, sweep = json.loads(book.cells[-1].outputs[0].text)
    rates = [row["rate_per_s"] for row in sweep]
    assert rates == sorted(rates)
    assert rates[-1] > 10 * rates[0] > 0
    held = [row for row in sweep if row["slo_met_fraction"] >= good]
    if not held:
        assert conclusion.startswith("Not even")
        return
    best = max(held, key=lambda row: row["rate_per_s"])
    assert f"hold {best['rate_per_s']:.1f} requests/s" in conclusion
    above = [row for row in sweep if row["rate_per_s"] > best["rate_per_s"]]
    expected = f"At {above[0]['rate_per_s']:.1f} requests/s" if above else "lies higher"
    assert expected in conclusion


def run_through(name, folder, ask):
    """Every output of a notebook that is run from top to bottom, and what a last cell prints."""
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    book.cells.append(nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({ask}))"))
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    assert not list(folder.iterdir()), "a notebook's runs stay in memory"
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return outputs, json.loads(book.cells[-1].outputs[-1].text)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq", "ignore::DeprecationWarning:jupyter_client")
def test_a_first_look_ends_in_what_its_tables_say(tmp_path):
    outputs, (conclusion, summary, first) = run_through(
        "first_look", tmp_path, '[conclusion, run.summary, reasons["resource"][0]]'
    )
    assert sum(PICTURE in output.get("data", {}) for output in outputs) == 2
    assert conclusion.startswith(f"{summary['requests_finished']} of {summary['requests_in']} requests")
    assert f"{1e3 * summary['ttft_s_p99']:.1f} ms" in conclusion
    assert first == summary["limited_by"]
    assert first in conclusion


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq", "ignore::DeprecationWarning:jupyter_client")
def test_how_many_racks_ends_in_what_its_plan_says(tmp_path):
    _, (conclusion, content) = run_through("how_many_racks", tmp_path, "[conclusion, plan.content]")
    answer = content["answer"]
    assert f"Build {answer['units']} {answer['unit']}" in conclusion
    assert answer["binding"] in conclusion
    smaller = [row for row in content["candidates"] if row["topology"] == answer["topology"] and row["units"] < answer["units"]]
    assert not any(row["holds"] for row in smaller)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq", "ignore::DeprecationWarning:jupyter_client")
def test_scheduled_against_packet_says_who_is_how_much_slower(tmp_path):
    outputs, (conclusion, rows) = run_through(
        "scheduled_against_packet", tmp_path, '[conclusion, json.loads(table.to_json(orient="records"))]'
    )
    assert sum(PICTURE in output.get("data", {}) for output in outputs) == 1
    means = [row["iteration_s_mean"] for row in rows]
    assert rows[0]["interconnect"] == "scheduled"
    for factor in (min(means[1:]) / means[0], max(means[1:]) / means[0]):
        assert f"{factor:.2f} times" in conclusion


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq", "ignore::DeprecationWarning:jupyter_client")
def test_energy_and_cost_holds_the_claim_beside_what_its_tables_say(tmp_path):
    ask = '[conclusion, CLAIMED, json.loads(found.to_json(orient="records"))]'
    _, (conclusion, (low, high), rows) = run_through("energy_and_cost", tmp_path, ask)
    of = {(row["machine"], row["rate"]): row["energy_j_per_token"] for row in rows}
    assert len(of) == 4
    for rate in ("1/s", "20/s"):
        ratio = of["64chip", rate] / of["dgx-h100", rate]
        assert f"at {rate} it takes {ratio:.2f} times the energy" in conclusion
        inside = conclusion.partition("this lies")[2]
        assert (rate in inside) == (low <= ratio <= high)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq", "ignore::DeprecationWarning:jupyter_client")
def test_your_own_cluster_serves_your_own_trace(tmp_path):
    _, (conclusion, summary, first) = run_through("your_own_cluster", tmp_path, '[conclusion, run.summary, waits["resource"][0]]')
    assert conclusion.startswith(f"{summary['requests_finished']} of 300 requests")
    assert f"{1e3 * summary['ttft_s_p99']:.0f} ms" in conclusion
    assert first == summary["limited_by"]
    assert first in conclusion


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq", "ignore::DeprecationWarning:jupyter_client")
def test_a_sweep_on_dask_ends_in_its_best_point(tmp_path):
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    ask = '[conclusion, bool(same), json.loads(swept.rows.to_json(orient="records"))]'
    outputs, (conclusion, same, rows) = run_through("sweep_on_dask", tmp_path, ask)
    assert same
    assert len(rows) == 4
    best = min(rows, key=lambda row: row["ttft_s_p99"])
    assert f"tp {best['mapping.tp']} at {best['rate']}: within {1e3 * best['ttft_s_p99']:.1f} ms" in conclusion
    assert sum(PICTURE in output.get("data", {}) for output in outputs) == 1
