"""Option files: read -> normalise -> check; `load` does all three."""
