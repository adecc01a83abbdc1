"""Whether a device does what is promised of it, tried with the commands that people use."""
