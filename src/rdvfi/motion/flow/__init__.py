"""Flow estimators."""
