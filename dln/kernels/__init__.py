"""Arrays in, arrays out: the machine code of the compiled engine, and how its arrays lie in memory."""
