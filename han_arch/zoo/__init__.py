"""Weights: the table of the zoo, checkpoints of several codebases, and the networks built from them."""
