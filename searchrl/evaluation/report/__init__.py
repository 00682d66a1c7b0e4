"""The report of an evaluation: one HTML page for someone who was not there."""
