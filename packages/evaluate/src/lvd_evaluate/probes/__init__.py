"""What is asked of frozen features; each probe stands alone."""
