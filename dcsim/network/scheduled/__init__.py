"""The packetless network: a compiler fixes every vector's cycle on every link, a checker proves it, a replay runs it.

`figures` (whole cycles), `schedule` (compile_schedule, Schedule), `proof` (prove), `replay`, `clocks`, `compose`
(equal blocks compiled once), `bit_errors`, `timeline`.
"""
