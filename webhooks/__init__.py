"""What is told to others. Nothing yet: the events and their delivery come with their own issue."""
