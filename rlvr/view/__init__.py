"""What people look at: the terminal, pictures, summaries; all from the run folder alone."""
