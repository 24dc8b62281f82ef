"""Objectives: losses from a model's named terms."""
