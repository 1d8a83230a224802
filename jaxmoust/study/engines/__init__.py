"""Places to compute a study; they decide who computes what, and nothing else."""
