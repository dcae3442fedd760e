"""What every Wherry service stands on."""
