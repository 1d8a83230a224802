"""Synthetic sets on disk: what one is, how it is written and read, and how images of others become one."""
