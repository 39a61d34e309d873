"""Publish, verify and reproduce releases of trained weights."""
