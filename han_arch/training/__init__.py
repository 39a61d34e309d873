"""The code that runs `basicsr train` and `basicsr test`."""
