"""The plugin «clean»: whether images hold what their folder, tag or label claims, and what follows from it."""
