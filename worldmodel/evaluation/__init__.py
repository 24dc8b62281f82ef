"""Measurements of models, and figures of them."""
