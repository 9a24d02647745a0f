"""Single steps of causal attention whose result for a row does not depend on the other rows."""
