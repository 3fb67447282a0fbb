"""Claims about the whole, with their evidence: every suite writes its figures as JSON with all that is needed to redo them."""
