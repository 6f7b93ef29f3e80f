"""Statistics: intervals, paired tests, always-valid tests."""
