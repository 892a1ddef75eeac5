"""Speed, and only speed. `python -m benchmarks [name ...]` runs them and prints figures beside their targets."""
