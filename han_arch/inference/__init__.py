"""Run a network over an image: engines, memory plans, tiles, and the variants of validation."""
