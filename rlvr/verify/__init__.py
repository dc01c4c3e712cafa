"""Runs verifier plugins in killable workers and makes rewards of what they say."""
