"""What a network sees, drawn: PCA of patch tokens, attention, matching parts."""
