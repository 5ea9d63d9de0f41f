"""Data sets in YOLO format: where their files lie, and what they say."""
