"""Commands that plan, run and look after jobs."""
