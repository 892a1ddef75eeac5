"""The web face of dcsim: pages that show saved runs. They read run folders and never import the simulator."""
