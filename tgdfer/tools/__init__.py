"""What is not a stage of the graph: doctor, status, explain, new-dataset, download."""
