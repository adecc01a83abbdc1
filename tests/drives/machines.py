"""Names of the folders at the top of the cloud drive of the tests: what each machine sees of it."""

JUDGE = "judge"  # sees everything at once and no errors
MACHINES = ("laptop", "desk")
