"""The gate: Great Expectations on the batch, SQL from the same suite on each row."""
