"""The command line: parses, calls one op, renders. Only this package prints or exits."""
