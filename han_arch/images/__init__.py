"""Image files: read, written and described; no network."""
