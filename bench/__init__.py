"""Speed and size, measured side by side with direct calls and with peers in one run. `make bench`."""
