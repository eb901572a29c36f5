"""From what probes say to values with intervals, comparisons and results.jsonl."""
