"""Will generated images help a classifier, and how many are worth one more real image? Answers, with evidence."""

__version__ = "0.2.0"
