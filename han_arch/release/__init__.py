"""Releases of weights: publish, verify and reproduce."""
