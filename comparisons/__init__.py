"""Claims about the whole, with their evidence: every suite writes its numbers as JSON, ready to be redone."""
