"""Read, convert and write image files. The code here does not run neural networks."""
