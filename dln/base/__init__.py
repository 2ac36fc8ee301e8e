"""What all other wings use: files, the process and its machine, arithmetic, streams of random numbers, registries."""
