"""What every plugin does in the App: forms, targets, jobs with progress, reports. Not a plugin itself."""
