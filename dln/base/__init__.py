"""What everything stands on: files, processes' surroundings, arithmetic, streams of random numbers, registries."""
