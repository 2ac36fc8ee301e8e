"""What a config can name: teachers, inputs, initialisations, optimizers."""
