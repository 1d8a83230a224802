"""Data sets as they lie on disk, a format a file; the registry opens one by its name."""
