"""What this machine does in a second, held against plain one-at-a-time code, and how long training will take."""
