"""Releases: what `basicsr zoo` makes, checks and repeats around the zoo's weight files."""
