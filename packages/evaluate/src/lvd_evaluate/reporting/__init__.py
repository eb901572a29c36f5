"""From results.jsonl to a page and a Markdown file."""
