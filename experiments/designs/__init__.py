"""Graphic designs as data: what a description says, designs of a making at the size of a training, parts of networks for them."""
