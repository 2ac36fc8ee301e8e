"""What is kept of many runs in place of their curves: exact sums, extremes and sketches, which can be put together."""
