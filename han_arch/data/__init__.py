"""Making, packing, checking and loading data sets."""
