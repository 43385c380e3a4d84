"""The lake: open, create, maintain, publish the serving file. Only this package knows DuckLake."""
