"""The packetless network: a compiler fixes every vector's cycle on every link, a checker proves it, a replay runs it.

`figures` (whole cycles), `schedule` (compile_schedule, Schedule), `compose` (a program piece by piece, equal pieces
once) on `places`, `bound`, `proof` (prove), `replay`, `clocks`, `bit_errors`, `timeline`.
"""
