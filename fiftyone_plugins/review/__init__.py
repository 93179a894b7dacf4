"""The FiftyOne plugin that sends samples to Label Studio and brings reviewed labels back; its entry is operators.py."""
