"""Networks that classify, trained here or read from public weights."""
