"""Who listens to a training: the terminal, and one file for every other tracker."""
