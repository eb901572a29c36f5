"""How work is cut, run on any number of processes, and kept when the run is killed."""
