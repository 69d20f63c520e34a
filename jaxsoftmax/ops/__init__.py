"""The operations: cards, rules and public functions, one operation a file."""
