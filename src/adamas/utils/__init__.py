"""Errors, devices, threads, files, locks, logging, random numbers. Only `device` knows the config."""
