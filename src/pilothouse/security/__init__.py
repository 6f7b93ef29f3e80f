"""Security controls: keys, redaction, secrets, audit."""
