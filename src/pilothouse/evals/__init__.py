"""Quality controls: datasets, runs, scorers, gates."""
