"""The FiftyOne plugin that computes embeddings and shows what lies near what; its entry is operators.py."""
