"""Images from a trained generator into a synthetic set."""
