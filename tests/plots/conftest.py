"""What is measured and drawn here; the fixtures are shared."""

from evaluated import dataset, evaluation, untrained

__all__ = ["dataset", "evaluation", "untrained"]
