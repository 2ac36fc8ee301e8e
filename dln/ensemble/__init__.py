"""The compiled engine: many runs of equal shape trained together on the CPU, each to the digits it has alone."""
