"""`python -m lvd_curate` is the command `curate`."""

from lvd_curate.cli import main

main()
