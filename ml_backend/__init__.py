"""The Flask app Label Studio asks for pre-labels: detectors, uncertainty, predictions."""
