"""The command line: verbs only. Each parses, calls and prints; the work is in the rooms below."""
