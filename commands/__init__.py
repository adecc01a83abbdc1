"""One file a command of the command line: it parses, calls, prints."""
