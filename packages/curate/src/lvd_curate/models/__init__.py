"""Frozen models: encoders, and the two that moderate."""
