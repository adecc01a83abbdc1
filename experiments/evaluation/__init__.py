"""How good heads are, and the files and rows that say so."""
