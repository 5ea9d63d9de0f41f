"""Data sets in COCO format: where their files lie, what is wrong with them, and what they say."""
