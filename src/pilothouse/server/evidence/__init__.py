"""Evidence for the review, read from every room. Blocking: called in a worker thread."""
