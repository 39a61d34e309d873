"""Inspect a network on one photo: its attentions, and the input pixels that a patch of the output depends on."""
