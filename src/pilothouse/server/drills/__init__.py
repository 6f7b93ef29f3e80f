"""Exercises of what is promised, whose evidence the review reads."""
