"""Runs programs that nobody trusts, and says what it could not shut."""
