"""Cross-validated comparisons: jobs, worker processes, the file of results, its table and its figure."""
