"""Pixels into batches: decoding, resizing, images held in memory or mapped, streams of training and evaluation."""
