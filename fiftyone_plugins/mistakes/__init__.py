"""The FiftyOne plugin that finds labels which are likely wrong, and has people decide; its entry is operators.py."""
