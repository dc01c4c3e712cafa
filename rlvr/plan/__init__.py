"""What a recipe would need before anything is started: memory by phase, time by phase, and what to change."""
