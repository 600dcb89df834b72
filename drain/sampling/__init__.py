"""Which traces are kept, and what each that is kept stands for: rules, decisions, and a look at recorded spans."""
