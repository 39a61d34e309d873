"""The run of `basicsr train` and `basicsr test`."""
