"""How Moa speaks to the certification authority and to providers: the MyData standard, v1 paths with the 2.0 consent flow."""
