"""params.yaml as typed, frozen objects, and what each stage of the graph reads."""
