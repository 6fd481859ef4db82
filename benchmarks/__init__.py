"""Speed and memory of medsr on the machine at hand; run by hand, results kept with machine and date."""
