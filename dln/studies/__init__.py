"""What many stored runs say together: statistics that a referee accepts, of results only; nothing here trains."""
