"""What knows nothing of the project: errors, devices, files, locks, logging, random numbers."""
