"""The order of draws: each sampler is a pure function of a position."""
