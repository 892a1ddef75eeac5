"""How functions are compiled and kept. Light: numba is imported by `jit` and `fetch` alone.

- `jit`: the decorators `entry`, `part` and `leaf`, and how they have numba compile.
- `made_of`: the fingerprint of all that a compiled function is made of, by which it is found again.
- `kept`: the files in which compiled functions wait for the next process.
- `progress`: who is told that something is being compiled.
"""
