"""The public face in Python, all of it reached as `dcsim.NAME`: load a scenario, change it, ask it.

    import dcsim

    scenario = dcsim.load("8rack").with_({"fabric.racks": 12}, rate="20/s")
    run = scenario.run(seed=1)
    run.summary["ttft_s_p99"], run.requests, run.bottlenecks()

Whatever is asked here is asked of the same studies that the command line asks; errors name arguments instead of options.
"""
