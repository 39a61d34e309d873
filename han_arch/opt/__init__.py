"""Option files: read, normalised, checked and loaded."""
