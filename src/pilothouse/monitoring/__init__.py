"""Operational monitoring: rules, alerts, actions."""
