"""The production-readiness review."""
