"""`python -m lvd_pretrain` and `accelerate launch -m lvd_pretrain`."""

from lvd_pretrain.cli import main

if __name__ == "__main__":
    main()
