"""What leaves the house: agreements and extracts."""
