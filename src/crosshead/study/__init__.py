"""Accuracy at equal budget: mechanisms compared by training them alike."""
