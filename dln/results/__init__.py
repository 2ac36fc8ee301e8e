"""What runs and sweeps leave on disk."""
