"""What is kept: tables, their statements, their verbs. No JSON, no dialects, no HTTP."""
