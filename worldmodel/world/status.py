"""What a step may tell beside its numbers: flags, of which several can be set at once."""

TERMINATED, OUTSIDE, DIVERGED, REFUSED = 1, 2, 4, 8
