"""Moa gathers a person's financial assets from every provider at once and pushes each result as it arrives.

Read `events.py` first (what can happen), then `registration/decisions.py` (the rules), then `services.py` (how it is built).
"""
