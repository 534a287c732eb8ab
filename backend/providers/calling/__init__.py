"""One call to an institution: out and back (`transport`), and who admits, judges and reports it (`guard`, `mirror`, `noticing`)."""
