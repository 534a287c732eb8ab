"""A person connects providers, and links begin: rules (`model`, `decisions`), deeds (`handling`, `signing`, `collecting`), HTTP (`endpoints`)."""
