"""Published claims and measurements, each run again.

claims      the rows as data: claim, source, published value, what to run
measures    the values that come from one machine: iteration, batch job, collective, path, schedule, workload
arithmetic  the values that come from a formula: memory, money, duty cycle
fleets      the values that compare whole systems at one speed per user
footprint   power, height and money that whole systems take
judge       ratio, verdict, and which assumed figure would change it
table       all rows: run, or read from the store
speeds      the rate-speed frontier of each system
pictures    mapping against interconnect, use of weights: studies with their pictures
page        the rows as text and as docs/VALIDATION.md
"""
