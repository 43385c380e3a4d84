"""Roof of the house: the command `tnmt`. Holds no SQL and no judgement."""
