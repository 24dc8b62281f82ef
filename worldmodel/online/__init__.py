"""Act, append, refit, improve, again: a simulator that grows where its agent goes."""
