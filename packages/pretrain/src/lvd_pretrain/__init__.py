"""lvd_pretrain."""
