"""The FiftyOne plugin that classifies by class names alone, and compares; its entry is operators.py."""
