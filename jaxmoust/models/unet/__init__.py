"""Pixel generators, and public ones brought into our layout."""
