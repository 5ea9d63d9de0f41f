"""What is run as processes of their own, by test_sequence_parallel.py, is no module of tests."""

collect_ignore = ["sharded_ranks.py", "sharded_refusals.py"]
