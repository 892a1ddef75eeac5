"""Served jobs that somebody measured, run again here: `dcsim validate --measured`."""
