"""Measured jobs: both tables and the client's own result are read, run as their client was, and compared."""

import json
import math
from pathlib import Path

import pytest
from command import dcsim

from dcsim import library
from validation.measured.compare import compare, summary
from validation.measured.files import read_jobs
from validation.measured.predict import llm_of, stored_as, topology_of

HEAD = (
    "id,backend,backend_version,model_path,system,precision,mode,isl,osl,gemm_quant_mode,moe_quant_mode,batch_size,tp_size,pp_size,"
    "attention_dp_size,moe_tp_size,moe_ep_size,silicon_ttft_ms,silicon_tpot_ms,measured_on,concurrency,image"
)
ONE = (
    "one,vllm,0.18,meta-llama/Llama-3.1-8B-Instruct,h100_sxm,fp8,agg,{isl},20,fp8,fp8,4.0,{tp},1.0,{dp},{tp},1.0,50,5,{day},4.0,"
)
INFERENCEMAX = (
    "hw,llm,framework,precision,spec_decoding,disagg,isl,osl,tp,ep,dp_attention,prefill_tp,prefill_ep,prefill_workers,"
    "prefill_dp_attention,decode_tp,decode_ep,decode_workers,decode_dp_attention,conc,ttft_s_mean,tpot_s_mean,output_tokens_per_s_per_gpu\n"
    "h200,gpt-oss-120b,vllm,fp4,none,false,64,16,1,1,false,,,,,,,,,2,0.03,0.004,250\n"
    "gb200,deepseek-r1-0528,dynamo-trt,fp4,mtp,true,1024,1024,,,,4,4,2,true,16,16,1,true,512,1.1,0.01,2000\n"
)
RESULT = {
    **{"model_id": "Qwen/Qwen3-8B", "max_concurrency": 2, "completed": 4, "total_input_tokens": 400, "total_output_tokens": 40},
    **{
        "mean_ttft_ms": 20.0,
        "mean_tpot_ms": 5.0,
        "output_throughput": 300.0,
        "system": "h100_sxm",
        "tp": "2",
        "precision": "bf16",
    },
}


def table(path, *rows):
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    return path


def row(isl="100", tp="1.0", dp="", day=""):
    return ONE.format(isl=isl, tp=tp, dp=dp, day=day)


def test_the_command_says_how_far_each_job_is_off(tmp_path):
    path = table(tmp_path / "jobs.csv", row(), row(isl="many"), row(tp="3000.0"))
    ask = ("validate", "--measured", str(path), "--json")
    said = json.loads(dcsim(*ask, cwd=tmp_path)[1])
    first, second, third = said["rows"]
    assert first["id"] == "one"
    assert first["reason"] is None
    assert first["tpot_ratio"] == pytest.approx(first["simulated"]["tpot_s"] / 0.005)
    assert first["ttft_ratio"] == pytest.approx(first["simulated"]["ttft_s"] / 0.05)
    assert "isl: 'many' is no number" in second["reason"]
    assert "3000" in third["reason"]
    assert second["tpot_ratio"] is third["tpot_ratio"] is None
    assert said["answered_fraction"] == pytest.approx(1 / 3)
    assert said["tpot_ln_error_mean"] == pytest.approx(abs(math.log(first["tpot_ratio"])))
    assert said["ttft_ln_error_mean"] == pytest.approx(abs(math.log(first["ttft_ratio"])))
    assert said["tpot_within_1.25_fraction"] in (0, 1)
    assert dcsim(*ask, cwd=tmp_path)[1] == json.dumps(said, indent=2) + "\n"  # stored by then


def test_lengths_are_drawn_where_a_date_stands(tmp_path):
    fixed, drawn = read_jobs(table(tmp_path / "j.csv", row(), row(day="2026-01-01")))
    assert (fixed.prompt, fixed.output) == ((100, 100), (20, 20))
    assert (drawn.prompt, drawn.output) == ((80, 100), (16, 20))
    assert drawn.requests_all == 10 * drawn.concurrency == 40


def test_copies_of_attention_follow_from_the_feed_forwards_degrees(tmp_path):
    path = table(tmp_path / "j.csv", row().replace(",1.0,1.0,,1.0,1.0,", ",2.0,1.0,,4.0,2.0,"))
    (job,) = read_jobs(path)
    assert (job.degrees.tp, job.degrees.attention_dp, job.degrees.ep, job.degrees.chips) == (2, 4, 2, 8)


def test_pools_and_drafts_of_inferencemax(tmp_path):
    path = tmp_path / "i.csv"
    path.write_text(INFERENCEMAX)
    plain, apart = read_jobs(path)
    assert plain.reads is None
    assert plain.measured.output_tokens_per_s == 250
    assert (apart.degrees.attention_dp, apart.degrees.ep, apart.degrees.chips) == (16, 16, 16)
    assert apart.reads is not None
    assert (apart.reads.chips, apart.reads.workers) == (8, 2)
    assert apart.drafts
    assert apart.measured.output_tokens_per_s == 32_000


def test_a_result_of_vllm_bench_serve(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(RESULT))
    (job,) = read_jobs(path)
    assert (job.prompt, job.output, job.requests_all, job.degrees.tp) == ((100, 100), (10, 10), 4, 2)
    answer = compare(path, jobs=1, stored=False)
    assert answer["answered_fraction"] == 1
    assert answer["rows"][0]["throughput_ratio"] > 0


def test_a_result_without_a_system_says_how_to_give_one(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps({key: value for key, value in RESULT.items() if key != "system"}))
    assert "--metadata" in compare(path, jobs=1, stored=False)["rows"][0]["reason"]


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", "a,b\n1,2\n"), ("b.csv", ""), ("c.json", "{}"), ("d.json", "[1]"), ("e.csv", HEAD)]
)
def test_a_file_in_no_layout_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    code, _, err = dcsim("validate", "--measured", name, cwd=tmp_path)
    assert code == 2
    assert name in err
    assert "Traceback" not in err


def test_an_llm_is_looked_up_in_the_folder_and_then_in_the_library(tmp_path):
    own = tmp_path / "Qwen--Qwen3-8B_config.json"
    own.write_text("{}")
    assert llm_of("Qwen/Qwen3-8B", tmp_path) == str(own)
    assert llm_of("Qwen/Qwen3-8B-FP8", tmp_path) == "qwen3-8b"
    assert llm_of("meta-llama/Meta-Llama-3.1-70B-Instruct", None) == "llama-3.1-70b"
    with pytest.raises(Exception, match="no LLM 'nobody/nothing'"):
        llm_of("nobody/nothing", None)


def test_every_system_that_tables_name_is_known():
    named = ["a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "b300_sxm", "gb200", "gb300", "mi300x", "mi325x", "mi355x", "l40s"]
    assert {topology_of(name) for name in named} <= set(library.names("topologies"))


def test_a_checkpoint_is_never_wider_than_the_job_says_nor_widened():
    from dcsim.spec.llm import LlmSpec
    from dcsim.spec.load import load_entry

    llama = load_entry("llama-3.1-70b", "workloads/llms", LlmSpec)[0]
    gpt_oss = load_entry("gpt-oss-120b", "workloads/llms", LlmSpec)[0]
    assert stored_as(llama, "fp8").precision.weights == "fp8"
    assert stored_as(llama, "fp8").precision.head == "bf16"
    assert stored_as(llama, "fp4").precision.weights == "nvfp4"
    assert stored_as(llama, "").precision.weights == "bf16"
    assert stored_as(gpt_oss, "fp8") == gpt_oss


def test_a_sample_is_drawn_by_the_seed(tmp_path):
    path = table(tmp_path / "j.csv", *[row(isl=str(n)).replace("one", f"job{n}") for n in range(50, 60)])
    rows = [compare(path, sample=2, seed=seed, jobs=1)["rows"] for seed in (1, 1, 2)]
    assert len(rows[0]) == 2
    assert rows[0] == rows[1]
    assert [r["id"] for r in rows[2]] != [r["id"] for r in rows[0]]


def test_errors_of_rows_that_were_not_run_count_in_no_mean():
    run = {"simulated": {"x": 1}, "tpot_ratio": 2.0, "ttft_ratio": None, "throughput_ratio": None}
    said = summary([run, {"simulated": None, "tpot_ratio": None, "ttft_ratio": None, "throughput_ratio": None}])
    assert said["answered_fraction"] == 0.5
    assert said["tpot_ln_error_mean"] == pytest.approx(math.log(2))
    assert said["ttft_ln_error_mean"] is None


@pytest.mark.skipif(not Path(__file__).parents[3].joinpath("shared/measured/served_gpu.csv").exists(), reason="no tables here")
def test_every_row_of_the_tables_is_a_job():
    shared = Path(__file__).parents[3] / "shared/measured"
    for name, count in (("served_gpu.csv", 871), ("inferencemax.csv", 159)):
        jobs = read_jobs(shared / name)
        assert len(jobs) == count
        assert not [job.problem for job in jobs if job.problem]
        assert len({job.id for job in jobs}) == count
