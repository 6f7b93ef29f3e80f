"""Wires everything: edge, ingest, control, supervisor."""
