"""The train and test commands."""
