"""BasicSR models that train and validate HAN, and save its checkpoints and training states."""

# Last part of the error message when the system refuses to write a file.
REFUSED_WRITE = "files saved earlier are complete; free disk space, then run the same command with --auto_resume"
