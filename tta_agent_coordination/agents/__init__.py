"""What an agent is: its interface, its handlers, what it can do and what is known of it."""
