"""Data sets, their partition over clients, and augmentation on the device."""
