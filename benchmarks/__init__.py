"""Speed, measured beside others: each file is a command that prints its own table."""
