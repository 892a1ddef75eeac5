"""How collectives become messages: one file for each family of patterns, on ranks that know nothing of networks."""
