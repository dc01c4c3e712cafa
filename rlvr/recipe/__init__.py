"""The recipe: what a run does, as YAML that people write and a frozen object that the code reads."""
