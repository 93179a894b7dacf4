"""Training sets written from reviewed labels: one writer per format, each a folder that appears whole or not at all."""
