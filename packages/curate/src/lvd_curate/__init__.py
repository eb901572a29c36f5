"""Turn an uncurated image pool and a few seed sets into a balanced, de-duplicated, decontaminated dataset."""
