"""Make, pack, check and load data sets of images."""
