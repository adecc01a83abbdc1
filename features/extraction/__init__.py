"""An encoder over many images, within a budget of memory."""
