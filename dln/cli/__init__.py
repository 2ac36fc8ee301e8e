"""The command line: the doors, sweeps with -m, help, tables."""
