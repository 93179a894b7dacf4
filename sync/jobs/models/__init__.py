"""Training, measuring, promoting, rolling back, calibrating."""
