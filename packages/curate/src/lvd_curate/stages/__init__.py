"""The steps of the pipeline, each a function from tables to a table; none knows of another."""
