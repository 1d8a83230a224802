"""Which image is in which set: base sets, folds, and real against synthetic images."""
