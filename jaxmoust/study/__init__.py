"""Experiments: what to run, what was already computed, and the page that answers."""
