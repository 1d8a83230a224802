"""How many synthetic images is one more real image worth? Generators, mixing samplers and classifiers, with evidence.

The rooms and who may import whom: core and runtime; data and models; train, generate and analysis; study, build,
jobs and cli. Importing the package imports none of them.
"""
