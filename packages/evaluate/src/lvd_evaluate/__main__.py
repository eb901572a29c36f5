"""`python -m lvd_evaluate` is the command `evaluate`."""

from lvd_evaluate.cli import main

main()
