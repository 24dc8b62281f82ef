"""State-space models: their contract, their parts, and checkpoints of them."""
