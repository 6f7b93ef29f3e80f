"""What the pages and their JSON twins show, read from both stores. Blocking: called in a worker thread."""
