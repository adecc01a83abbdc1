"""Commands that show, judge and hand on what was trained."""
