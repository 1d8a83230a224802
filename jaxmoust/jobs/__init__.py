"""The verbs, one file each: what a verb does stands in its file's docstring, and how in its job."""
