"""Claims about the whole, with their evidence: every suite writes its figures as JSON, ready to be redone."""
