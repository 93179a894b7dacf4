"""The plugins' work as jobs."""
