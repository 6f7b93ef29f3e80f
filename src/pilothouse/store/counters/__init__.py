"""Counters of limits and budgets: one interface, kept in this process, in a file of this host, or in Valkey."""
