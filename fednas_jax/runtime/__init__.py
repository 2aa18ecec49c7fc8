"""What the package needs of the machine before anything is computed."""
