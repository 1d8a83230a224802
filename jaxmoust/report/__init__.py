"""The page of a study: sentences, tables, charts and pictures from numbers that somebody else gathered."""
