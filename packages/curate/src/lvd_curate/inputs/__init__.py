"""Where images come from, and how their bytes are read and decoded: nothing here knows of a pipeline."""
