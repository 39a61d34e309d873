"""Measurements for `basicsr bench` (networks) and for `basicsr data bench` (data loading and training)."""
