"""What everything stands on: errors, terminal, streams of the process, memory."""
