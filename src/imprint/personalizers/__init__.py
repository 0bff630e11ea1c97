"""Methods that answer for a user. All of them score and respond to batches in which users are mixed."""
