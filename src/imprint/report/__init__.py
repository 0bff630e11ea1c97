"""What a person reads: tables, plots and one self-contained page. Plain values in, no torch."""
