"""What the fleet does once: one leader among any number of coordinators."""
