"""Pure functions of arrays, keys and plain numbers.

Noise levels, denoisers, solvers, augmentation, losses, optimizers, and the trees they act on. Nothing here
reads a file, knows a device or a data set, or draws from a hidden generator: whatever is random takes a JAX
key, and whatever is random *per example* takes one key per example, so that no result depends on how a batch
is laid out over devices. Import the modules by name; nothing is re-exported.
"""
