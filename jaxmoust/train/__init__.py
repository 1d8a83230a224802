"""The only loop, and the tasks it runs."""
