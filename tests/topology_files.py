"""Topology files written by tests: any fabric and network, with the rest of a small shipped system."""


def topology_file(folder, fabric, network, chip="lpu-v1", node="lpu-node"):
    """The path of a topology with `fabric` and `network` as YAML texts."""
    path = folder / "topology.yaml"
    path.write_text(
        f"name: case\nchip: {chip}\nnode: {node}\nhost: epyc-7313x2\nnetwork: {network}\nfabric: {fabric}\nllm: llama-3-8b\n"
        "mapping: {rule: inside_nodes, weights: int8, kv: fp16}\nworkload: chat\nslo: {ttft: 1 s, tpot: 10 ms}\n"
    )
    return str(path)
