"""A person connects providers: rules (`model`, `decisions`), deeds (`handling`, `signing`, `collecting`), HTTP (`endpoints`)."""
