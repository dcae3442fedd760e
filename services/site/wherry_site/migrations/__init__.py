"""The site database's schema, release by release."""
