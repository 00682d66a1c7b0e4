"""SearchRL inside other tools: one thin module each, which imports its tool; the extra of the same name installs it."""
