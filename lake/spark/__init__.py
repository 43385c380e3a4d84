"""The bridge to Spark and Sedona: what a table of the lake is made of at a snapshot, read, translated, written back."""
