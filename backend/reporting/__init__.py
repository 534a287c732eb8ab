"""What the calls of the whole fleet add up to. In: the stream of reports. Out: sums in PostgreSQL, and answers from them."""
