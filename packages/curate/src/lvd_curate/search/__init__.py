"""Vectors near one another: neighbours, clusters, components, at any size."""
