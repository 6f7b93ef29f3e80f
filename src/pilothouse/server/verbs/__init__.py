"""The verbs of the control plane, used alike by the API, the pages, the rules and the canary watch."""
