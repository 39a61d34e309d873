"""Read and write image files; no network."""
