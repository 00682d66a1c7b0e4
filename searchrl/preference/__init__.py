"""The names by which users of the reference implementation know the stages of ``searchrl fit``."""
