"""A network in, an image out: variants of inference that leave the network as it is."""
