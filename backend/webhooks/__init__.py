"""Webhooks: facts go to the adopter's own backend, signed, at least once, in order per user. Decision 0007 says what is promised."""
