"""Measuring networks: protocol, tables, pictures."""
