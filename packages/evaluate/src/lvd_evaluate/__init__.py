"""lvd_evaluate."""
