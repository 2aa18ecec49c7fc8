"""Pure Flax (linen) modules and array functions; knows no clients, files or configs."""
