"""Request visibility: journal, ingest, loader, metrics."""
