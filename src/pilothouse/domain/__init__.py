"""The nouns of the product and the wires between its rooms. Imports nothing of ours."""
