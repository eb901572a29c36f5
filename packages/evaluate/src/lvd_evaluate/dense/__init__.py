"""Heads on frozen patch tokens: segmentation and depth, their images, losses, metrics and training."""
