"""What knows nothing of the project: errors, devices, threads, files, locks, logging, random numbers."""
