"""What is recorded of a run: metrics, the quantities they share, events found at its end."""
