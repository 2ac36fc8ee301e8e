"""What pages are made of: uPlot, charts and heat maps, colours, and how one file is put together."""
