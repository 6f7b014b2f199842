"""File formats for writers: one module each, no policy, no locks on time, no knowledge of any mail server."""
