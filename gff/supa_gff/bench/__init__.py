"""Cross-validated comparison of methods: jobs, worker processes, results, tables and figures."""
