"""Cross-validated comparisons: jobs, the processes that run them, the file they fill, its table and its picture."""
