"""Diffusion in one contract, x = x0 + sigma noise: noise levels, denoisers, training methods and solvers."""
