"""`basicsr bench` measures networks side by side; `basicsr data bench` measures loading against the network."""
