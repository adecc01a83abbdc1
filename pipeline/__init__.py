"""The engine: a list of jobs, claims, a commit protocol and the one loop. It knows no image and no tensor."""
