"""The served environment."""
