"""Files for the test servers: written from runs, checked offline by every rule, and kept with what the server said."""
