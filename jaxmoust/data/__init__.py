"""Images and labels: where they come from, in which order they are drawn, how they become batches.

sources → pool → samplers → loader, with the synthetic set on disk (synthetic) as one more kind of source.
Built on numpy, Grain and TFDS; nothing here imports jax, so that a loader can run in any process.
Import the modules by name; nothing is re-exported.
"""
