"""Playing the dream in a browser: the session, its server and its page."""
