"""Weights: reading checkpoints of several forms, converting them, building networks from them."""
