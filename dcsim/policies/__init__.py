"""Who is served where and when: each policy once, as a function that its kind in a topology file names."""
