"""Weight files: the table of the model zoo, checkpoints of several codebases, and the networks built from them."""
