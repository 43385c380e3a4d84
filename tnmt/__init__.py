"""Settings and command line."""
