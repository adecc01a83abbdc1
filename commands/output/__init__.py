"""What commands print. Knows no option and computes nothing."""
