"""Read the table of the model zoo, read checkpoints of several codebases, and build networks from them."""
