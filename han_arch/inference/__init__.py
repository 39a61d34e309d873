"""Super-resolve images with a network: engines, memory plans, tiles, and variants such as self-ensemble."""
