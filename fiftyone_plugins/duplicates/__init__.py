"""The FiftyOne plugin that finds images which show the same, and lets a curator decide; its entry is operators.py."""
