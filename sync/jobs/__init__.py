"""What moves labels, one module a job, and the runner that starts them; one writer per project at a time."""
