"""The plugin «quality»: what is technically wrong with an image, and what to keep."""
