"""Times and memory, as anyone can measure them again."""
