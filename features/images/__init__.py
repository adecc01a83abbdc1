"""From an image's bytes to the pixels that an encoder takes."""
