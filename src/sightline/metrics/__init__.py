"""Numbers from truths and answers, both lists of ``Scene``."""
