"""From a delivery to a checked batch: contracts, readers, landing, load."""
