"""Pure Flax (linen) modules and array functions, which know no clients, files or configs."""
