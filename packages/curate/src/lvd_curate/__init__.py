"""lvd_curate."""
