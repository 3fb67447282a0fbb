"""Training: one update, the loop over data, the run around it, and the processes of a run."""
