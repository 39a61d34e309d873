"""HAN under BasicSR: one training step, one validation, and the files that they write."""

# What a user can do when the system refuses to write.
REFUSED_WRITE = "what was saved before is complete: make room, then run the same command with --auto_resume"
