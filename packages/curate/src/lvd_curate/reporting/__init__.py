"""What a finished dataset has to say: card, report, and the story of every image."""
