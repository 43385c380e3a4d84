"""A whole province from one seed: what its senders would write, faults included; and replay of real series."""
