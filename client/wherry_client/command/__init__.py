"""The `wherry` command."""
