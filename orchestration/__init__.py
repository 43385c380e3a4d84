"""How the rooms work together: the run, the marts build, Dagster, serving, doctor."""
