"""Self-supervised DINOv2 pretraining of vision transformers: DINO + iBOT + KoLeo with an EMA teacher."""

__version__ = "0.1.0"
