"""The web face of dcsim: thin pages on studies and pictures. What takes long is done by workers, never by the server."""
